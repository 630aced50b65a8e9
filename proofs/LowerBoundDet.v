(** * Ours 2a, a corollary: more than n states whenever |det W| < 1
    With n states DWD⁻¹ shortens nothing; then (DWD⁻¹)ᵀDWD⁻¹ >= I has a determinant of at least 1,
    by elimination: each pivot is at least 1, and what is left of the matrix is again >= I. *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements StatementsOurs RingTactic Norm Dilation Scaling LowerBound.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Det.
Variable R : rcfType.
Add Ring R_ring : (ring_of R).

Lemma det_ge1 n (A : 'M[R]_n) : psd (A - 1%:M) -> 1 <= \det A.
Proof.
elim: n A => [A _|n IH]; first by rewrite det_mx00.
rewrite -[n.+1]/(1 + n)%N => A; rewrite -[A]submxK (scalar_mx_block 1 n 1).
rewrite opp_block_mx add_block_mx !subr0 => psdA.
have sym : dlsubmx A = (ursubmx A)^T.
  by have := psdA.1; rewrite tr_block_mx => /eq_block_mx[_ <-].
rewrite [ulsubmx A]mx11_scalar sym -raddfB /= in psdA *.
set a := ulsubmx A 0 0 in psdA *; set c := ursubmx A in psdA *; set B := drsubmx A in psdA *.
have a1 : 1 <= a.
  have := step_form psdA 1 0; rewrite mulmx0 !dot0r mulr0 mul0rn !addr0 expr1n mulr1.
  by rewrite subr_ge0.
have a0 : a != 0 by rewrite gt_eqF // (lt_le_trans ltr01).
pose S := B - a^-1 *: (c^T *m c).
have -> : block_mx a%:M c c^T B = block_mx 1%:M 0 (a^-1 *: c^T) 1%:M *m block_mx a%:M c 0 S.
  rewrite mulmx_block !mul1mx !mul0mx !addr0 mul_mx_scalar scalerA.
  by rewrite mulfV // scale1r -scalemxAl /S addrC subrK.
rewrite det_mulmx det_lblock det_ublock !det1 !mul1r det_scalar1.
apply: (mulr_ege1 a1); apply: IH; split=> [|v].
  have := step_sym psdA; rewrite !linearB /= !trmx1 => /addIr BT.
  by rewrite linearZ /= BT trmx_mul trmxK.
have := step_form psdA (- dot c^T v / a) v.
rewrite !mulmxBl !dotDr !dotNr -scalemxAl dotZr -mulmxA [dot v (c^T *m _)]dot_mul trmxK.
have -> : dot (c *m v) (c *m v) = dot c^T v ^+ 2.
  by rewrite [LHS]big_ord1 -expr2; congr (_ ^+ 2); rewrite dotE trmxK.
set q := dot c^T v; set e := dot v (B *m v); set l := dot v (1%:M *m v).
have aV : a^-1 * a = 1 by rewrite mulVf.
have -> : (a - 1) * (- q / a) ^+ 2 + (- q / a * q) *+ 2 + (e - l)
          = e - a^-1 * q ^+ 2 - l - (q / a) ^+ 2.
  have -> : (a - 1) * (- q / a) ^+ 2 + (- q / a * q) *+ 2 + (e - l)
            = q * q * a^-1 * (a^-1 * a) - (q / a) ^+ 2 - (q * q * a^-1) *+ 2 + (e - l).
    by ring_ops R.
  by rewrite aV; ring_ops R.
by move=> h; apply: le_trans h _; rewrite ler_subl_addr ler_addl sqr_ge0.
Qed.
End Det.

Theorem ours2a_det_holds : ours2a_det.
Proof.
move=> R n N V Θ detV oU equal; have [d d0 [B rB Bv]] := ours2a_holds oU equal.
rewrite ltnNge; apply/negP => Nn; move: detV; rewrite ltNge => /negP; apply.
have fullB : row_full B.
  rewrite /row_full eqn_leq rank_leq_col (leq_trans _ rB) //.
  by rewrite leq_subRL mul2n -addnn ?leq_add2r // (leq_trans Nn) // leq_addr.
pose V' := scaled d V.
have detV' : \det V' = \det V.
  by rewrite /V' scaledE // !det_mulmx mulrAC -det_mulmx DD' // det1 mul1r.
have : 1 <= \det (V'^T *m V').
  apply: det_ge1; split=> [|v]; first by rewrite linearB /= trmx1 trmx_mul trmxK.
  have := Bv v (submx_full _ fullB); rewrite norm_le mulmxBl dotDr dotNr mul1mx -mulmxA.
  by rewrite [dot v (V'^T *m _)]dot_mul trmxK subr_ge0.
by rewrite det_mulmx det_tr detV' -expr2 -real_normK ?num_real // expr_ge1.
Qed.
