(** * The Euclidean norm over a real closed field *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements RingTactic.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(** ** The inner product; no square root yet *)
Section Dot.
Variable R : realFieldType.
Implicit Types n : nat.
Definition dot n (u v : 'cV[R]_n) : R := \sum_i u i 0 * v i 0.

Lemma dotE n (u v : 'cV[R]_n) : dot u v = (u^T *m v) 0 0.
Proof. by rewrite mxE; apply: eq_bigr => i _; rewrite mxE. Qed.
Lemma dotC n (u v : 'cV[R]_n) : dot u v = dot v u.
Proof. by apply: eq_bigr => i _; rewrite mulrC. Qed.
Lemma dotDl n (u v w : 'cV[R]_n) : dot (u + v) w = dot u w + dot v w.
Proof. by rewrite -big_split; apply: eq_bigr => i _; rewrite mxE mulrDl. Qed.
Lemma dotDr n (u v w : 'cV[R]_n) : dot w (u + v) = dot w u + dot w v.
Proof. by rewrite !(dotC w) dotDl. Qed.
Lemma dotZl n a (u v : 'cV[R]_n) : dot (a *: u) v = a * dot u v.
Proof. by rewrite mulr_sumr; apply: eq_bigr => i _; rewrite mxE mulrA. Qed.
Lemma dotZr n a (u v : 'cV[R]_n) : dot u (a *: v) = a * dot u v.
Proof. by rewrite dotC dotZl dotC. Qed.
Lemma dotNl n (u v : 'cV[R]_n) : dot (- u) v = - dot u v.
Proof. by rewrite -scaleN1r dotZl mulN1r. Qed.
Lemma dotNr n (u v : 'cV[R]_n) : dot u (- v) = - dot u v.
Proof. by rewrite dotC dotNl dotC. Qed.
Lemma dot0l n (v : 'cV[R]_n) : dot 0 v = 0.
Proof. by apply: big1 => i _; rewrite mxE mul0r. Qed.
Lemma dot0r n (v : 'cV[R]_n) : dot v 0 = 0.
Proof. by rewrite dotC dot0l. Qed.
Lemma dot_ge0 n (v : 'cV[R]_n) : 0 <= dot v v.
Proof. by apply: sumr_ge0 => i _; rewrite -expr2 sqr_ge0. Qed.
Lemma dot_eq0 n (v : 'cV[R]_n) : dot v v = 0 -> v = 0.
Proof.
move=> /eqP; rewrite psumr_eq0 => [/allP v0|i _]; last by rewrite -expr2 sqr_ge0.
apply/matrixP=> i j; rewrite ord1 mxE; apply/eqP.
by have := v0 i (mem_index_enum i); rewrite mulf_eq0 orbb.
Qed.
Lemma dot_mul n m (A : 'M[R]_(m, n)) u v : dot u (A *m v) = dot (A^T *m u) v.
Proof. by rewrite !dotE trmx_mul trmxK mulmxA. Qed.
Lemma dot_sqr_ge n (v : 'cV[R]_n) i : v i 0 ^+ 2 <= dot v v.
Proof.
rewrite /dot (bigD1 i) //= -expr2 ler_addl sumr_ge0 // => j _.
by rewrite -expr2 sqr_ge0.
Qed.
Lemma dot_col_mx n m (u u' : 'cV[R]_n) (v v' : 'cV[R]_m) :
  dot (col_mx u v) (col_mx u' v') = dot u u' + dot v v'.
Proof.
by rewrite /dot big_split_ord; congr (_ + _); apply: eq_bigr => i _;
  rewrite ?col_mxEu ?col_mxEd.
Qed.
(** An orthogonal matrix keeps lengths. *)
Lemma dot_orthogonal n m (U : 'M[R]_(m, n)) v : U^T *m U = 1%:M -> dot (U *m v) (U *m v) = dot v v.
Proof. by move=> oU; rewrite dot_mul mulmxA oU mul1mx. Qed.
(** (I - AᵀA) as a quadratic form. *)
Lemma dot_defect n m (A : 'M[R]_(m, n)) v :
  dot v ((1%:M - A^T *m A) *m v) = dot v v - dot (A *m v) (A *m v).
Proof. by rewrite mulmxBl mul1mx dotDr dotNr -mulmxA [dot v (A^T *m _)]dot_mul trmxK. Qed.

Lemma relu_ge0 (z : R) : 0 <= relu z.
Proof. by rewrite /relu le_maxr lexx. Qed.
Lemma relu_pos (z : R) : 0 <= z -> relu z = z.
Proof. by move=> z0; rewrite /relu max_r. Qed.
Lemma relu_neg (z : R) : z <= 0 -> relu z = 0.
Proof. by move=> z0; rewrite /relu max_l. Qed.
Lemma relu_sqr (z : R) : relu z ^+ 2 <= z ^+ 2.
Proof.
by case: (leP 0 z) => z0; [rewrite relu_pos | rewrite relu_neg ?(ltW z0) // expr0n /= sqr_ge0].
Qed.
Lemma relu_lipschitz (y z : R) : (relu y - relu z) ^+ 2 <= (y - z) ^+ 2.
Proof.
wlog yz : y z / y <= z => [thm|].
  case: (leP y z) => [/thm //|/ltW/thm].
  by rewrite -sqrrN opprB -[(z - y) ^+ 2]sqrrN opprB.
rewrite -sqrrN opprB -[(y - z) ^+ 2]sqrrN opprB; case: (leP 0 y) => y0.
  by rewrite !relu_pos // (le_trans y0).
rewrite (relu_neg (ltW y0)) subr0; case: (leP 0 z) => z0; last first.
  by rewrite relu_neg ?(ltW z0) // expr0n /= sqr_ge0.
by rewrite relu_pos // ler_pexpn2r ?nnegrE ?subr_ge0 // ler_addl oppr_ge0 ltW.
Qed.
End Dot.

Section Norm.
Variable R : rcfType.
Add Ring R_ring : (ring_of R).
Implicit Types n : nat.

Lemma norm_dot n (v : 'cV[R]_n) : norm v = Num.sqrt (dot v v).
Proof. by congr Num.sqrt; apply: eq_bigr => i _; rewrite expr2. Qed.
Lemma norm_ge0 n (v : 'cV[R]_n) : 0 <= norm v.
Proof. exact: sqrtr_ge0. Qed.
Lemma norm_sqr n (v : 'cV[R]_n) : norm v ^+ 2 = dot v v.
Proof. by rewrite norm_dot sqr_sqrtr ?dot_ge0. Qed.
Lemma norm_le n m (u : 'cV[R]_n) (v : 'cV[R]_m) : (norm u <= norm v) = (dot u u <= dot v v).
Proof. by rewrite -!norm_sqr ler_pexpn2r // nnegrE norm_ge0. Qed.
Lemma norm0 n : norm (0 : 'cV[R]_n) = 0.
Proof. by rewrite norm_dot dot0l sqrtr0. Qed.
Lemma norm_eq0 n (v : 'cV[R]_n) : norm v = 0 -> v = 0.
Proof. by move=> v0; apply: dot_eq0; rewrite -norm_sqr v0 expr0n. Qed.
Lemma norm_le_sqr n (v : 'cV[R]_n) a : 0 <= a -> (norm v <= a) = (dot v v <= a ^+ 2).
Proof. by move=> a0; rewrite -norm_sqr ler_pexpn2r // nnegrE norm_ge0. Qed.
Lemma entry_norm n (v : 'cV[R]_n) i : `|v i 0| <= norm v.
Proof. by rewrite -sqrtr_sqr norm_dot ler_wsqrtr // dot_sqr_ge. Qed.
Lemma norm_relu n (v : 'cV[R]_n) : norm (map_mx (@relu R) v) <= norm v.
Proof. by rewrite norm_le; apply: ler_sum => i _; rewrite mxE -!expr2 relu_sqr. Qed.

Lemma cauchy_schwarz n (u v : 'cV[R]_n) : dot u v <= norm u * norm v.
Proof.
have [u0|u0] := eqVneq (norm u) 0.
  by rewrite u0 mul0r (norm_eq0 u0) dot0l.
have [v0|v0] := eqVneq (norm v) 0.
  by rewrite v0 mulr0 (norm_eq0 v0) dot0r.
have p : 0 < norm u * norm v by rewrite mulr_gt0 ?lt_neqAle 1?eq_sym ?u0 ?v0 ?norm_ge0.
have := dot_ge0 (norm v *: u - norm u *: v).
rewrite -scaleNr !dotDl !dotDr !dotZl !dotZr (dotC v u) -!norm_sqr.
set d := dot u v; set x := norm u in p *; set y := norm v in p *.
have -> : y * (y * x ^+ 2) + y * (- x * d) + (- x * (y * d) + - x * (- x * y ^+ 2))
          = (x * y) * (x * y - d) *+ 2 by ring_ops R.
by rewrite pmulrn_lge0 // pmulr_rge0 // subr_ge0.
Qed.

Lemma norm_triangle n (u v : 'cV[R]_n) : norm (u + v) <= norm u + norm v.
Proof.
rewrite norm_le_sqr ?addr_ge0 ?norm_ge0 // sqrrD !norm_sqr dotDl !dotDr (dotC v u).
rewrite addrA ler_add2r -addrA ler_add2l mulr2n.
by rewrite ler_add ?cauchy_schwarz.
Qed.

(** A ball holds a box. *)
Lemma norm_box n (v : 'cV[R]_n) a : 0 <= a -> (forall i, `|v i 0| <= a / n.+1%:R) -> norm v <= a.
Proof.
move=> a0 va; have n0 : 0 < n.+1%:R :> R by rewrite ltr0n.
rewrite norm_le_sqr //; apply: (@le_trans _ _ (\sum_(i < n) (a / n.+1%:R) ^+ 2)).
  apply: ler_sum => i _; rewrite -expr2 -(real_normK (num_real (v i 0))).
  by rewrite ler_pexpn2r ?nnegrE ?divr_ge0 // ltW.
rewrite sumr_const card_ord exprMn exprVn -mulrnAr ler_pimulr ?sqr_ge0 //.
rewrite -mulr_natr mulrC ler_pdivr_mulr ?exprn_gt0 // mul1r -natrX ler_nat.
by rewrite expnS expn1 (leq_trans (leqnSn n)) // leq_pmulr.
Qed.

(** Every matrix has a bound on its norm (Frobenius'). *)
Lemma norm_bound n m (A : 'M[R]_(m, n)) : exists2 f, 0 <= f & forall v, norm (A *m v) <= f * norm v.
Proof.
exists (Num.sqrt (\sum_i norm (row i A)^T ^+ 2)) => [|v]; first exact: sqrtr_ge0.
have s0 : 0 <= \sum_i norm (row i A)^T ^+ 2 by apply: sumr_ge0 => i _; rewrite sqr_ge0.
rewrite norm_le_sqr ?mulr_ge0 ?sqrtr_ge0 ?norm_ge0 // exprMn sqr_sqrtr // mulr_suml.
apply: ler_sum => i _; rewrite -expr2 -exprMn -(real_normK (num_real ((A *m v) i 0))).
have -> : (A *m v) i 0 = dot (row i A)^T v by rewrite dotE trmxK -row_mul [RHS]mxE.
rewrite ler_pexpn2r ?nnegrE ?mulr_ge0 ?norm_ge0 // ler_norml cauchy_schwarz andbT.
rewrite ler_oppl -dotNl (le_trans (cauchy_schwarz _ _)) // ler_wpmul2r ?norm_ge0 //.
by rewrite norm_le dotNl dotNr opprK.
Qed.
End Norm.
