(** * Step 1 of theorem 1: the orthogonal dilation of minimal size
    A factor I - WᵀW = KᵀK with r = rank(I - WᵀW) rows (Cholesky), then the orthonormal columns
    [W; K] completed to an orthogonal matrix (an orthonormal basis of their complement). *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements RingTactic Norm.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Dilation.
Variable R : rcfType.
Add Ring R_ring : (ring_of R).

Definition psd n (A : 'M[R]_n) : Prop := A^T = A /\ forall v, 0 <= dot v (A *m v).

Lemma rank_gram m n (A : 'M[R]_(m, n)) : \rank (A *m A^T) = \rank A.
Proof.
apply/eqP; rewrite eqn_leq mxrankM_maxl leqNgt; apply/negP => lt.
have sub : (kermx (A *m A^T) <= kermx A)%MS.
  apply/sub_kermxP/row_matrixP => i; rewrite row_mul row0.
  set u := row i _; have u0 : u *m (A *m A^T) = 0 by apply/sub_kermxP; apply: row_sub.
  apply: trmx_inj; rewrite trmx0; apply: dot_eq0; rewrite dotE trmxK.
  by rewrite trmx_mul mulmxA -[u *m _ *m _]mulmxA u0 mul0mx mxE.
have := mxrankS sub; rewrite !mxrank_ker leqNgt ltn_sub2l //.
exact: leq_trans lt (rank_leq_row _).
Qed.

(** One step of the elimination: A = [a, c; cᵀ, B]. *)
Section Step.
Variables (n : nat) (a : R) (c : 'rV[R]_n) (B : 'M[R]_n).
Hypothesis psdA : psd (block_mx a%:M c c^T B).

Lemma step_form t v : 0 <= a * t ^+ 2 + (t * dot c^T v) *+ 2 + dot v (B *m v).
Proof.
have := psdA.2 (col_mx t%:M v).
rewrite mul_block_col dot_col_mx !dotDr -!addrA.
have -> : dot (t%:M : 'cV_1) (a%:M *m t%:M) = a * t ^+ 2.
  by rewrite -scalar_mxM /dot big_ord1 !mxE !mulr1n mulrC -mulrA.
have cv : (c *m v) 0 0 = dot c^T v by rewrite dotE trmxK.
have -> : dot (t%:M : 'cV_1) (c *m v) = t * dot c^T v.
  by rewrite /dot big_ord1 -/(dot c^T v) -cv !mxE mulr1n.
have -> : dot v (c^T *m t%:M) = t * dot c^T v.
  by rewrite mul_mx_scalar dotZr dotC.
by [].
Qed.

Lemma step_sym : B^T = B.
Proof. by have := psdA.1; rewrite tr_block_mx => /eq_block_mx[_ _ _]. Qed.

Lemma step_zero : a = 0 -> c = 0.
Proof.
move=> a0; apply: trmx_inj; rewrite trmx0; apply: dot_eq0; apply/eqP/negPn/negP => q0.
set q := dot c^T c^T in q0; set e := dot c^T (B *m c^T).
have := step_form (- (e + 1) / (q *+ 2)) c^T; rewrite -/q -/e a0 mul0r add0r -mulrnAr.
rewrite divfK ?mulrn_eq0 // opprD addrAC addNr add0r oppr_ge0.
by rewrite leNgt ltr01.
Qed.

Lemma step_pos : a != 0 -> 0 < a.
Proof.
move=> a0; rewrite lt_def a0 /=; have := step_form 1 0.
by rewrite mulmx0 !dot0r mulr0 mul0rn !addr0 expr1n mulr1.
Qed.

Lemma step_schur : a != 0 -> psd (B - a^-1 *: (c^T *m c)).
Proof.
move=> a0; split=> [|v].
  by rewrite linearB /= linearZ /= step_sym trmx_mul trmxK.
have := step_form (- dot c^T v / a) v.
rewrite mulmxBl dotDr dotNr -scalemxAl dotZr -mulmxA [dot v (c^T *m _)]dot_mul trmxK.
have -> : dot (c *m v) (c *m v) = dot c^T v ^+ 2.
  by rewrite [LHS]big_ord1 -expr2; congr (_ ^+ 2); rewrite dotE trmxK.
set q := dot c^T v; set e := dot v _.
have -> : a * (- q / a) ^+ 2 = a^-1 * q ^+ 2.
  by rewrite expr2 mulrA mulrCA divff // mulr1 !mulNr mulrN opprK mulrAC mulrC -expr2.
have -> : - q / a * q = - (a^-1 * q ^+ 2) by ring_ops R.
by rewrite mulr2n addrA subrr sub0r addrC.
Qed.
End Step.

(** Cholesky's factor, without the zero rows. *)
Lemma psd_factor n (A : 'M[R]_n) : psd A ->
  exists K : 'M[R]_(\rank A, n), row_free K /\ K^T *m K = A.
Proof.
suff fac : psd A -> exists r (K : 'M[R]_(r, n)), row_free K /\ K^T *m K = A.
  move=> /fac[r [K [freeK <-]]].
  have -> : \rank (K^T *m K) = r by rewrite -{2}[K]trmxK rank_gram mxrank_tr (eqP freeK).
  by exists K.
elim: n A => [A|n IH].
  by exists 0%N, 0; split; [rewrite /row_free mxrank0 | apply/matrixP => -[]].
rewrite -[n.+1]/(1 + n)%N => A; rewrite -[A]submxK => psdA.
have sym : dlsubmx A = (ursubmx A)^T.
  by have := psdA.1; rewrite tr_block_mx => /eq_block_mx[_ <-].
rewrite [ulsubmx A]mx11_scalar sym in psdA *.
set a := ulsubmx A 0 0 in psdA *; set c := ursubmx A in psdA *; set B := drsubmx A in psdA *.
have [a0|a0] := eqVneq a 0.
  have [|r [K [freeK KK]]] := IH B.
    split=> [|v]; first exact: step_sym psdA.
    by have := step_form psdA 0 v; rewrite mul0r mul0rn expr0n /= mulr0 !add0r.
  have c0 := step_zero psdA a0; exists r, (row_mx 0 K); split.
    by rewrite /row_free rank_row_0mx.
  rewrite a0 c0 trmx0 tr_row_mx mul_col_row KK trmx0 !mul0mx mulmx0; congr block_mx.
  by rewrite raddf0.
have agt0 := step_pos psdA a0.
have [r [K [/row_freeP[K' KK'] KK]]] := IH _ (step_schur psdA a0).
pose s := Num.sqrt a; have ss : s * s = a by rewrite -expr2 sqr_sqrtr // ltW.
have s0 : s != 0 by rewrite sqrtr_eq0 -ltNge.
exists (1 + r)%N, (block_mx s%:M (s^-1 *: c) 0 K); split.
  apply/row_freeP; exists (block_mx (s^-1)%:M (- (a^-1 *: (c *m K'))) 0 K').
  rewrite mulmx_block -scalar_mxM divff // !mulmx0 !mul0mx addr0 add0r KK'.
  rewrite mulmxN mul_scalar_mx scalerA -scalemxAl -ss invfM mulVKf // addNr.
  by rewrite add0r -scalar_mx_block.
rewrite tr_block_mx mulmx_block !tr_scalar_mx trmx0 !mul0mx mulmx0 !addr0 -scalar_mxM ss.
rewrite mul_scalar_mx scalerA divff // scale1r mul_mx_scalar linearZ /= scalerA divff // scale1r.
congr block_mx; rewrite KK -scalemxAl -scalemxAr scalerA -invfM ss.
by rewrite addrC subrK.
Qed.

(** The orthonormal columns V completed by r more. *)
Lemma complete_orthogonal k r (V : 'M[R]_(k + r, k)) : V^T *m V = 1%:M ->
  exists P : 'M[R]_(k + r, r), orthogonal (row_mx V P).
Proof.
move=> VV.
have rV : \rank V = k.
  by apply/eqP; rewrite eqn_leq rank_leq_col; have := mxrankM_maxr V^T V; rewrite VV mxrank1.
have [Q [freeQ QV]] : exists Q : 'M[R]_(r, k + r), row_free Q /\ Q *m V = 0.
  have [d dE] : exists d, d = (k + r)%N by exists (k + r)%N.
  rewrite -dE in V {VV} rV *; have : \rank (kermx V) = r by rewrite mxrank_ker rV dE addKn.
  move=> <-; exists (row_base (kermx V)); split; first exact: row_base_free.
  by apply/sub_kermxP; rewrite eq_row_base.
have psdG : psd (Q *m Q^T).
  by split=> [|v]; [rewrite trmx_mul trmxK | rewrite -mulmxA dot_mul dot_ge0].
have [K [uK KK]] : exists K : 'M[R]_r, K \in unitmx /\ K^T *m K = Q *m Q^T.
  have := psd_factor psdG; have -> : \rank (Q *m Q^T) = r by rewrite rank_gram (eqP freeQ).
  by move=> [K [freeK KK]]; exists K; rewrite -row_free_unit.
exists (Q^T *m invmx K).
rewrite /orthogonal tr_row_mx mul_col_row VV.
have -> : V^T *m (Q^T *m invmx K) = 0 by rewrite mulmxA -trmx_mul QV trmx0 mul0mx.
have -> : (Q^T *m invmx K)^T *m V = 0 by rewrite trmx_mul trmxK -mulmxA QV mulmx0.
have -> : (Q^T *m invmx K)^T *m (Q^T *m invmx K) = 1%:M.
  rewrite trmx_mul trmxK mulmxA -[_ *m Q *m _]mulmxA -KK mulmxA -trmx_mul.
  by rewrite mulmxV // trmx1 mul1mx mulmxV.
by rewrite -scalar_mx_block.
Qed.

(** U = [W, B; K, S], orthogonal, where K bounds: |K v| <= |v|. *)
Lemma dilation n (W : 'M[R]_n) : nonexpansive W ->
  exists (K : 'M[R]_(defect W, n)) B S,
    K^T *m K = 1%:M - W^T *m W /\ orthogonal (block_mx W B K S).
Proof.
move=> nexp; have psdI : psd (1%:M - W^T *m W).
  split=> [|v]; first by rewrite linearB /= trmx1 trmx_mul trmxK.
  by rewrite dot_defect subr_ge0 -norm_le.
have [K [_ KK]] := psd_factor psdI.
have [|P oP] := @complete_orthogonal n (defect W) (col_mx W K).
  by rewrite tr_col_mx mul_row_col KK addrC subrK.
by exists K, (usubmx P), (dsubmx P); rewrite block_mxEh vsubmxK.
Qed.
End Dilation.
