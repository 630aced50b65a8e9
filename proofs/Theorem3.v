(** * Theorem 3: no finite unitary network when φ′ has no zero
    Equal outputs on an open set over T steps force N >= nT. The prose lets the span of the ranges
    of V_t = ∂s⁽ᵏ⁾/∂x⁽ᵗ⁾ grow with k; here the same is read from the last step backwards, as
    "Σ V_t u_t = 0 only if every u_t = 0". Inputs move along one line c + t u, so that each
    derivative is that of a function of the one real variable t. *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements Theorem3Derivative.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Line.
Variables (R : realFieldType) (φ φ' : R -> R).
Hypothesis dφ : forall z, derivative φ z (φ' z).
Variable n : nat.
Implicit Types (c u : nat -> 'cV[R]_n).

Definition line c u (t : R) (k : nat) : 'cV[R]_n := c k + t *: u k.

Lemma line0 c u k : line c u 0 k = c k.
Proof. by rewrite /line scale0r addr0. Qed.

(** ** The derivative of the states along the line
    σ⁽ᵏ⁾ = D_k (U σ⁽ᵏ⁻¹⁾ + F u⁽ᵏ⁾), D_k = diag φ′ at step k; written out, σ⁽ᵏ⁾ = Σ V_t u⁽ᵗ⁾. *)
Section States.
Variables (N p : nat) (Θ : RNN R N n p).

Definition preact x k : 'cV[R]_N := W Θ *m state φ Θ x k + F Θ *m x k + b Θ.

Definition D c k : 'M[R]_N := diag_mx (map_mx φ' (preact c k))^T.

Fixpoint dstate c u k : 'cV[R]_N :=
  if k is k'.+1 then D c k' *m (W Θ *m dstate c u k' + F Θ *m u k') else 0.

Lemma stateE x k i : state φ Θ x k.+1 i 0 = φ (preact x k i 0).
Proof. exact: mxE. Qed.

Lemma preactE x k i : preact x k i 0 =
  (\sum_j W Θ i j * state φ Θ x k j 0 + \sum_j F Θ i j * x k j 0) + b Θ i 0.
Proof. by rewrite mxE [(_ + _ : 'cV_N) i 0]mxE; congr (_ + _ + _); exact: mxE. Qed.

Lemma dstateE c u k i : dstate c u k.+1 i 0 = φ' (preact c k i 0) *
  (\sum_j W Θ i j * dstate c u k j 0 + \sum_j F Θ i j * u k j 0).
Proof.
rewrite [dstate c u k.+1]/= /D mul_diag_mx mxE; congr (_ * _); first by rewrite !mxE.
by rewrite [LHS]mxE; congr (_ + _); exact: mxE.
Qed.

Lemma state_derivative c u k i :
  derivative (fun t => state φ Θ (line c u t) k i 0) 0 (dstate c u k i 0).
Proof.
elim: k i => [|k IH] i; first by rewrite [dstate c u 0 i 0]mxE; exact: derivative_cst.
rewrite dstateE.
have dx j : derivative (fun t => line c u t k j 0) 0 (u k j 0).
  apply: derivative_ext (derivative_affine (c k j 0) 0 (u k j 0)) => t.
  by rewrite [RHS]mxE [(t *: _ : 'cV_n) j 0]mxE mulrC.
have dpre : derivative (fun t => preact (line c u t) k i 0) 0
    (\sum_j W Θ i j * dstate c u k j 0 + \sum_j F Θ i j * u k j 0).
  rewrite -[X in derivative _ _ X]addr0.
  have dsum := derivativeD (derivativeD (derivative_sum (W Θ i) IH)
    (derivative_sum (F Θ i) dx)) (derivative_cst (b Θ i 0) 0).
  by apply: derivative_ext dsum => t; rewrite preactE.
have start : preact (line c u 0) k i 0 = preact c k i 0.
  have same : forall j, state φ Θ (line c u 0) j = state φ Θ c j.
    by elim=> [//|j E] /=; rewrite E line0.
  by rewrite /preact same line0.
rewrite -start; apply: derivative_ext (derivative_comp dpre (dφ _)) => t.
by rewrite stateE.
Qed.

Lemma output_derivative c u k i :
  derivative (fun t => output φ Θ (line c u t) k i 0) 0 ((C Θ *m dstate c u k.+1) i 0).
Proof.
rewrite [X in derivative _ _ X]mxE.
apply: derivative_ext (derivative_sum (C Θ i) (state_derivative c u k.+1)) => t.
by rewrite [RHS]mxE.
Qed.

(** The derivative is linear in the direction. *)
Lemma dstate_linear c u u1 u2 a k : (forall j, u j = a *: u1 j + u2 j) ->
  dstate c u k = a *: dstate c u1 k + dstate c u2 k.
Proof.
move=> uE; elim: k => [|k IH] /=; first by rewrite scaler0 addr0.
by rewrite IH uE !mulmxDr -!scalemxAr !scalerDr addrACA.
Qed.

(** D_k U is injective: this is where φ′ ≠ 0 and the invertible U are used. *)
Lemma dstate_injective c u k : (forall z, φ' z != 0) -> W Θ \in unitmx ->
  u k = 0 -> dstate c u k.+1 = 0 -> dstate c u k = 0.
Proof.
move=> φ'0 invW uk /= dk; rewrite uk mulmx0 addr0 in dk.
have invD : D c k \in unitmx.
  rewrite unitmxE det_diag unitfE; apply/prodf_neq0 => i _; rewrite mxE mxE; exact: φ'0.
by rewrite -[LHS](mulKmx invW) -[W Θ *m _](mulKmx invD) dk !mulmx0.
Qed.
End States.

(** ** The teacher's derivative: diag φ′(x⁽ᵏ⁾) u⁽ᵏ⁾, of rank n in u⁽ᵏ⁾ *)
Lemma memoryless_injective c u k : (forall z, φ' z != 0) ->
  C (memoryless R n) *m dstate (memoryless R n) c u k.+1 = 0 -> u k = 0.
Proof.
move=> φ'0; rewrite /= mul1mx mul0mx add0r mul1mx => E.
apply/colP => i; have := congr1 (fun s : 'cV_n => s i 0) E.
rewrite /D mul_diag_mx !mxE => /eqP; rewrite mulf_eq0 => /orP[|/eqP //].
by rewrite (negbTE (φ'0 _)).
Qed.

(** ** Equal outputs have equal derivatives *)
Lemma line_near c u T ε : 0 < ε -> exists2 δ, 0 < δ & forall t, `|t| < δ ->
  forall k, (k < T)%N -> forall i, `|line c u t k i 0 - c k i 0| < ε.
Proof.
move=> ε0; pose size := 1 + \sum_(k < T) \sum_i `|u k i 0|.
have size0 : 0 < size by rewrite ltr_paddr // sumr_ge0 // => k _; rewrite sumr_ge0.
exists (ε / size); first exact: divr_gt0.
move=> t tδ k ltk i; rewrite [line c u t k i 0]mxE [(t *: _ : 'cV_n) i 0]mxE addrC addKr normrM.
rewrite ltr_pdivl_mulr // in tδ; apply: le_lt_trans tδ; rewrite ler_wpmul2l //.
rewrite ler_paddl ?ler01 // (bigD1 (Ordinal ltk)) //= (bigD1 i) //= -addrA ler_addl.
by rewrite addr_ge0 ?sumr_ge0 // => k' _; rewrite sumr_ge0.
Qed.

Lemma equal_derivatives T N1 N2 p (Θ1 : RNN R N1 n p) (Θ2 : RNN R N2 n p) c ε : 0 < ε ->
  equal_over φ T (fun k x => forall i, `|x i 0 - c k i 0| < ε) Θ1 Θ2 ->
  forall u k, (k < T)%N -> C Θ1 *m dstate Θ1 c u k.+1 = C Θ2 *m dstate Θ2 c u k.+1.
Proof.
move=> ε0 equal u k ltk; apply/colP => i.
apply: derivative_unique (output_derivative Θ1 c u k i) (output_derivative Θ2 c u k i).
have [δ δ0 near] := line_near c u T ε0; exists δ => // t tδ.
by rewrite add0r equal //; exact: near.
Qed.

(** ** From the last step backwards
    If the last state does not move, then its output does not, so neither does the teacher's and
    u⁽ᵏ⁾ = 0; then, D_k U being injective, the state before does not move either. *)
Lemma still_only_at_rest T N m p (Θ1 : RNN R m n p) (Θ : RNN R N n p) c u ε : 0 < ε ->
  W Θ \in unitmx -> (forall z, φ' z != 0) ->
  equal_over φ T (fun k x => forall i, `|x i 0 - c k i 0| < ε) Θ1 Θ ->
  (forall k, (k < T)%N -> C Θ1 *m dstate Θ1 c u k.+1 = 0 -> u k = 0) ->
  forall k, (k <= T)%N -> dstate Θ c u k = 0 -> forall j, (j < k)%N -> u j = 0.
Proof.
move=> ε0 invW φ'0 equal teacher; elim=> [//|k IH] ltk dk j.
have uk : u k = 0 by apply: teacher; rewrite // (equal_derivatives ε0 equal) // dk mulmx0.
rewrite ltnS leq_eqVlt => /orP[/eqP -> //|]; apply: IH (ltnW ltk) _ j.
exact: dstate_injective dk.
Qed.
End Line.

(** ** Counting: an injective linear map from nT dimensions into N *)
Lemma injective_size (K : fieldType) m1 n1 m2 n2 (f : 'M[K]_(m1, n1) -> 'M[K]_(m2, n2)) :
  linear f -> (forall u, f u = 0 -> u = 0) -> (m1 * n1 <= m2 * n2)%N.
Proof.
move=> lin inj; pose g := Linear lin.
have inv : row_free (lin_mx g).
  apply/row_freeP; exists (pinvmx (lin_mx g)).
  apply/row_matrixP => i; rewrite row_mul row1; apply/eqP; rewrite -subr_eq0; apply/eqP.
  apply: (can_inj vec_mxK); rewrite linear0; apply: inj.
  rewrite -[f _]/(g _) -mx_rV_lin mulmxBl mulmxKpV ?row_sub // -rowE subrr.
  exact: linear0.
by rewrite -(eqP inv); exact: rank_leq_col.
Qed.

(** A direction u⁽⁰⁾, ..., u⁽ᵀ⁻¹⁾ as the columns of a matrix; 0 afterwards. *)
Definition direction (R : ringType) n T (M : 'M[R]_(n, T)) (k : nat) : 'cV[R]_n :=
  if insub k is Some i then col i M else 0.

Lemma direction_linear (R : ringType) n T a (M1 M2 : 'M[R]_(n, T)) k :
  direction (a *: M1 + M2) k = a *: direction M1 k + direction M2 k.
Proof.
by rewrite /direction; case: insub => [i|]; rewrite ?linearP // scaler0 addr0.
Qed.

Theorem theorem3_holds : theorem3.
Proof.
move=> R φ φ' dφ φ'0 n N T Θ c ε ε0 invW equal.
pose f (M : 'M[R]_(n, T)) := dstate φ φ' Θ c (direction M) T.
rewrite -[N]muln1; apply: (@injective_size _ _ _ _ _ f).
  by move=> a M1 M2; apply: dstate_linear => k; exact: direction_linear.
move=> M fM; apply/matrixP => i j; rewrite [RHS]mxE.
have := still_only_at_rest dφ ε0 invW φ'0 equal
  (fun k _ => memoryless_injective φ'0) (leqnn T) fM (ltn_ord j).
by rewrite /direction valK => /colP/(_ i); rewrite !mxE.
Qed.

(** The poster's theorem: no finite network with an invertible recurrence repeats the memoryless
    teacher for ever; N states fail within ⌊N/n⌋ + 1 steps. *)
Corollary no_finite_network (R : realFieldType) (φ φ' : R -> R) n N (Θ : RNN R N n n) :
  (forall z, derivative φ z (φ' z)) -> (forall z, φ' z != 0) -> (0 < n)%N -> W Θ \in unitmx ->
  ~ equal_over φ (N %/ n).+1 (fun _ _ => True) (memoryless R n) Θ.
Proof.
move=> dφ φ'0 n0 invW equal.
have := @theorem3_holds R φ φ' dφ φ'0 n N (N %/ n).+1 Θ (fun=> 0) 1 ltr01 invW.
move=> /(_ (fun x _ => equal x (fun _ _ => I))).
by rewrite leqNgt mulnC ltn_ceil.
Qed.
