(** * The price of a window, for linear recurrences
    Equal outputs give C UʲF = Vʲ for j <= T. With A = U - λ, invertible, and M = V - λ they give
    C AʲF = Mʲ as well. If then F c₀ + A F c₁ + ... + Aᵀ F c_T = 0 and all c but the last lie in a
    complement of the range of M, then c₀ = 0, since C makes it an M-multiple; A is taken off, and so
    on: all are 0. So the N states hold n + (n - rank M) T independent vectors. *)
From mathcomp Require Import all_ssreflect all_algebra complex.
From Proofs Require Import Statements StatementsLinear Theorem3.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Definition power (R : ringType) n (A : 'M[R]_n) i : 'M[R]_n := iter i (mulmx A) 1%:M.
Lemma powerSr (R : ringType) n (A : 'M[R]_n) i : power A i.+1 = power A i *m A.
Proof.
elim: i => [|i IH]; first by rewrite /power /= mulmx1 mul1mx.
by rewrite /power iterS -/(power A i.+1) {1}IH mulmxA.
Qed.

(** ** Over any field *)
Section Window.
Variables (K : fieldType) (n N T : nat).
Variables (V : 'M[K]_n) (U : 'M[K]_N) (F : 'M[K]_(N, n)) (C : 'M[K]_(n, N)) (λ : K).
Local Notation A := (U - λ%:M).
Local Notation M := (V - λ%:M).
Hypothesis same : forall i, (i <= T)%N -> C *m power U i *m F = power V i.
Hypothesis invA : A \in unitmx.

(** Σ AʲF c_{k+j}, j <= m, by Horner's rule; and the same of the teacher. *)
Fixpoint horner (c : nat -> 'cV[K]_n) k m : 'cV[K]_N :=
  if m is m'.+1 then F *m c k + A *m horner c k.+1 m' else F *m c k.
Fixpoint hornerV (c : nat -> 'cV[K]_n) k m : 'cV[K]_n :=
  if m is m'.+1 then c k + M *m hornerV c k.+1 m' else c k.

Lemma power_sub q r (P : 'M[K]_(r, q)) (Z : 'M_q) (h : 'cV_q) i :
  P *m power Z i *m ((Z - λ%:M) *m h)
  = P *m power Z i.+1 *m h - λ *: (P *m power Z i *m h).
Proof. by rewrite mulmxBl mulmxBr mul_scalar_mx -scalemxAr powerSr !mulmxA. Qed.

Lemma horner_seen c m k i : (i + m <= T)%N ->
  C *m power U i *m horner c k m = power V i *m hornerV c k m.
Proof.
elim: m k i => [|m IH] k i le /=.
  by rewrite mulmxA same // (leq_trans _ le) ?leq_addr.
rewrite !mulmxDr mulmxA same; last by rewrite (leq_trans _ le) ?leq_addr.
congr (_ + _); rewrite power_sub -[power V i]mul1mx power_sub !mul1mx !IH //.
  by rewrite (leq_trans _ le) // leq_add2l.
by rewrite addSnnS.
Qed.

(** A complement of the range of M. *)
Definition G : 'M[K]_(n, \rank (M^T^C)%MS) := (row_base (M^T^C)%MS)^T.
Lemma rank_G : \rank (M^T^C)%MS = (n - \rank M)%N.
Proof. by rewrite mxrank_compl mxrank_tr. Qed.
Lemma G_complement (d : 'cV_(\rank (M^T^C)%MS)) (y : 'cV_n) : G *m d + M *m y = 0 -> G *m d = 0.
Proof.
move/eqP; rewrite addr_eq0 => /eqP E.
apply: trmx_inj; rewrite trmx0; apply/eqP; rewrite -submx0 -(capmx_compl M^T) sub_capmx.
by rewrite {1}E -mulmxN !trmx_mul !submxMl trmxK (submx_trans (submxMl _ _)) ?eq_row_base.
Qed.

Lemma horner_injective c m k : (m <= T)%N ->
  (forall j, (j < m)%N -> exists d, c (k + j)%N = G *m d) -> horner c k m = 0 ->
  forall j, (j <= m)%N -> c (k + j)%N = 0.
Proof.
elim: m k => [|m IH] k le inG h0 j.
  rewrite leqn0 => /eqP ->; rewrite addn0 -[c k](mul1mx) -[1%:M]/(power V 0) -same //.
  by rewrite -mulmxA [F *m _]h0 mulmx0.
have ck : c k = 0.
  have := @horner_seen c m.+1 k 0; rewrite h0 mulmx0 mul1mx => /(_ le) /=.
  have [d] := inG 0%N isT; rewrite addn0 => -> /esym.
  exact: G_complement.
case: j => [|j]; first by rewrite addn0.
rewrite ltnS addnS -addSn; apply: IH (ltnW le) _ _ j => [i lt|].
  by rewrite addSn -addnS; apply: inG.
by move: h0; rewrite /= ck mulmx0 add0r => /(congr1 (mulmx (invmx A))); rewrite mulKmx // mulmx0.
Qed.

Lemma horner_linear a c c1 c2 k m : (forall j, c j = a *: c1 j + c2 j) ->
  horner c k m = a *: horner c1 k m + horner c2 k m.
Proof.
move=> cE; elim: m k => [|m IH] k /=; first by rewrite cE mulmxDr scalemxAr.
by rewrite IH cE !mulmxDr -!scalemxAr scalerDr addrACA.
Qed.

(** The coefficients: c_j = G d_j for j < T, and c_T free. *)
Definition coefficients (D : 'M[K]_(\rank (M^T^C)%MS, T)) (w : 'cV[K]_n) k : 'cV[K]_n :=
  if (k < T)%N then G *m direction D k else w.

Lemma window_size : (n + (n - \rank M) * T <= N)%N.
Proof.
rewrite -rank_G; set q := \rank _.
pose D (z : 'rV[K]_(n + q * T)) : 'M_(q, T) := vec_mx (rsubmx z).
pose w (z : 'rV[K]_(n + q * T)) : 'cV_n := (lsubmx z)^T.
pose f z := horner (coefficients (D z) (w z)) 0 T.
rewrite -[(n + _)%N]mul1n -[N]muln1; apply: (@injective_size _ _ _ _ _ f).
  move=> a z1 z2; apply: horner_linear => k; rewrite /coefficients /D /w !linearP /=.
  by case: ifP => _; rewrite // direction_linear mulmxDr -scalemxAr.
move=> z fz; have all0 j : (j <= T)%N -> coefficients (D z) (w z) j = 0.
  apply: (horner_injective (leqnn T)) fz j => i lt; rewrite add0n /coefficients lt.
  by exists (direction (D z) i).
have wz : w z = 0 by have := all0 T (leqnn T); rewrite /coefficients ltnn.
have Dz : D z = 0.
  apply/matrixP => i j; have := all0 j (ltnW (ltn_ord j)); rewrite /coefficients ltn_ord.
  have full : row_free (row_base (M^T^C)%MS) := row_base_free _.
  move=> /(congr1 trmx); rewrite trmx_mul trmxK trmx0 => /eqP; rewrite mulmx_free_eq0 //.
  by rewrite /direction valK => /eqP/rowP/(_ i); rewrite !mxE.
rewrite -[z]hsubmxK -[rsubmx z]vec_mxK -/(D z) Dz linear0.
by rewrite -[lsubmx z]trmxK -/(w z) wz trmx0 row_mx0.
Qed.
End Window.

(** ** Equal outputs are equal answers to a unit of input *)
Section Answers.
Variables (R : realFieldType) (n m p N : nat).
Definition unit_input (v : 'cV[R]_m) k : 'cV[R]_m := if k is 0%N then v else 0.

Lemma answer (Θ : RNN R N m p) v k :
  state id Θ (unit_input v) k.+1 = state id Θ (fun=> 0) k.+1 + power (W Θ) k *m (F Θ *m v).
Proof.
have stepE x j : state id Θ x j.+1 = W Θ *m state id Θ x j + F Θ *m x j + b Θ.
  by apply/matrixP => a c; rewrite [LHS]mxE.
elim: k => [|k IH]; rewrite stepE [in RHS]stepE.
  by rewrite mul1mx mulmx0 addr0 addrAC.
rewrite IH mulmxDr !mulmx0 !addr0 addrAC; congr (_ + _).
by rewrite mulmxA.
Qed.
End Answers.

(** ** From the real numbers to the complex ones: U - λ is invertible off the circle *)
Section Circle.
Variables (R : rcfType) (N : nat) (U : 'M[R]_N) (λ : R[i]).
Local Notation cpx := (map_mx (real_complex R)).

Lemma off_circle : orthogonal U -> `|λ| != 1 -> cpx U - λ%:M \in unitmx.
Proof.
move=> oU λ1; rewrite -row_free_unit -kermx_eq0; apply/rowV0P => v /sub_kermxP.
rewrite mulmxBr mul_mx_scalar => /eqP; rewrite subr_eq0 => /eqP vU.
have UU : cpx U *m (cpx U)^T = 1%:M.
  by rewrite map_trmx -map_mxM (mulmx1C oU) map_mx1.
have conjU : map_mx conjC (cpx U) = cpx U.
  by apply/matrixP => i j; rewrite !mxE; exact: conjc_real.
have keep : v *m (map_mx conjC v)^T = (λ * λ^* ) *: (v *m (map_mx conjC v)^T).
  have cv : map_mx conjC v *m cpx U = λ^* *: map_mx conjC v.
    by rewrite -{1}conjU -map_mxM vU map_mxZ.
  rewrite -{1}[v]mulmx1 -UU mulmxA vU -mulmxA -trmx_mul cv linearZ /=.
  by rewrite -scalemxAl -scalemxAr scalerA.
have sq : (v *m (map_mx conjC v)^T) 0 0 = \sum_i `|v 0 i| ^+ 2.
  by rewrite mxE; apply: eq_bigr => i _; rewrite !mxE normCK.
have : (1 - `|λ| ^+ 2) * (\sum_i `|v 0 i| ^+ 2) = 0.
  rewrite -sq mulrBl mul1r normCK {1}keep [X in X - _]mxE subrr.
  by [].
move/eqP; rewrite mulf_eq0 subr_eq0 eq_sym sqrf_eq1 (negPf λ1) /=.
have pos : (`|λ| == -1) = false.
  by apply/negbTE; rewrite -subr_eq0 opprK gt_eqF // ltr_spaddr ?ltr01 ?normr_ge0.
rewrite pos psumr_eq0 => [/allP v0|i _]; last by rewrite exprn_ge0.
apply/rowP => i; rewrite mxE; apply/eqP; rewrite -normr_eq0 -sqrf_eq0.
by apply: v0; rewrite mem_index_enum.
Qed.
End Circle.

Theorem ours_linear_holds : ours_linear.
Proof.
move=> R n N T V Θ λ λ1 oU equal.
have markov i : (i <= T)%N -> C Θ *m power (W Θ) i *m F Θ = power V i.
  move=> iT; apply/matrixP => a c; pose v : 'cV[R]_n := delta_mx c 0.
  have eq x := equal x (fun _ _ => I) i iT.
  have := eq (unit_input v); rewrite /output !answer !mulmxDr -/(output id Θ (fun=> 0) i).
  rewrite -/(output id (Rnn V 1%:M 0 1%:M 0) (fun=> 0) i) -eq => /addrI.
  rewrite !mul1mx !mulmxA -!colE => /colP/(_ a).
  by rewrite !mxE => ->.
apply: (@window_size _ n N T (map_mx (real_complex R) V) (map_mx (real_complex R) (W Θ))
  (map_mx (real_complex R) (F Θ)) (map_mx (real_complex R) (C Θ)) λ); last exact: off_circle.
have powerE m (A : 'M[R]_m) i : power (map_mx (real_complex R) A) i
                                = map_mx (real_complex R) (power A i).
  elim: i => [|i IH]; first by rewrite map_mx1.
  by rewrite !powerSr IH map_mxM.
by move=> i iT; rewrite !powerE -!map_mxM markov.
Qed.
