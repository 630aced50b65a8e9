(** * Ours 1a: a diagonal scaling changes the recurrence and not the outputs; the shift family *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements StatementsOurs RingTactic Norm Dilation Theorem1.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Scaling.
Variables (R : rcfType) (n : nat) (d : 'rV[R]_n).
Hypothesis d0 : forall i, 0 < d 0 i.
Local Notation relu := (@Statements.relu R).
Local Notation D := (diag_mx d).
Definition inv_row : 'rV[R]_n := \row_i (d 0 i)^-1.
Local Notation D' := (diag_mx inv_row).

Lemma DD' : D *m D' = 1%:M.
Proof.
apply/matrixP => i j; rewrite mul_diag_mx !mxE.
by case: eqVneq => [->|_]; rewrite ?mulr0n ?mulr0 // !mulr1n mulfV ?gt_eqF.
Qed.
Lemma D'D : D' *m D = 1%:M.
Proof. exact: mulmx1C DD'. Qed.
Lemma scaledE (V : 'M[R]_n) : scaled d V = D *m V *m D'.
Proof. by apply/matrixP => i j; rewrite mul_mx_diag mul_diag_mx !mxE. Qed.
Lemma relu_scaled (v : 'cV[R]_n) : map_mx relu (D *m v) = D *m map_mx relu v.
Proof.
apply/matrixP => i j; rewrite !mul_diag_mx !mxE /relu.
by rewrite maxr_pmulr ?ltW // mulr0.
Qed.

Variables (m p : nat) (Θ : RNN R n m p).
Definition scaled_network : RNN R n m p :=
  Rnn (scaled d (W Θ)) (D *m F Θ) (D *m b Θ) (C Θ *m D') (D *m hinit Θ).

Lemma scaled_state x k : state relu scaled_network x k = D *m state relu Θ x k.
Proof.
elim: k => [//|k IH] /=; rewrite IH scaledE -!mulmxA (mulmxA D' D) D'D mul1mx.
by rewrite -!mulmxDr relu_scaled.
Qed.
Lemma scaled_output x k : output relu scaled_network x k = output relu Θ x k.
Proof. by rewrite /output scaled_state /= -mulmxA (mulmxA D') D'D mul1mx. Qed.

Lemma unitary_in_scaled X N : unitary_in scaled_network X N -> unitary_in Θ X N.
Proof.
move=> [Θ' [oU eq]]; exists Θ'; split=> // T x xX k kT.
by rewrite -scaled_output; apply: eq kT.
Qed.

(** A contraction whose scaling is only non-expansive: bound the states before scaling. *)
Lemma unitary_of_scaling X : contractive (W Θ) -> nonexpansive (scaled d (W Θ)) ->
  unitary_in Θ X (n + defect (scaled d (W Θ))).
Proof.
move=> [c c01 Wc] nexp; apply: unitary_in_scaled.
have [f f0 Ff] := norm_bound (F Θ); have [g g0 Dg] := norm_bound D.
pose M := Num.max (norm (hinit Θ)) ((f * X + norm (b Θ)) / (1 - c)).
apply: (@unitary_of_bounded _ _ _ _ scaled_network (bounded X) (g * M)) => //.
move=> x T xX k kT; rewrite scaled_state; apply: le_trans (Dg _) _.
by rewrite ler_wpmul2l //; apply: (state_bound c01 Wc Ff f0 xX).
Qed.
End Scaling.

Theorem ours1a_holds : ours1a.
Proof.
move=> R n m p Θ X d d0 contr; apply: (unitary_in_scaled d0).
by have [_] := theorem1_holds (Θ := scaled_network d Θ) X contr.
Qed.

(** ** The shift: J is non-expansive of defect 1, and a scaling of εJ *)
Section Shift.
Variables (R : rcfType) (n : nat).
Local Notation J := (shift R n).

Lemma shift_gram : J^T *m J = 1%:M - diag_mx (\row_i ((i == 0%N :> nat))%:R).
Proof.
apply/matrixP => i j; rewrite !mxE.
have -> : \sum_k J^T i k * J k j = \sum_(k < n) ((k.+1 == i) && (k.+1 == j))%:R.
  by apply: eq_bigr => k _; rewrite !mxE -natrM mulnb.
have [->|ij] := eqVneq i j; last first.
  rewrite mulr0n subr0 big1 // => k _; case: eqP => //= ->.
  by rewrite (inj_eq val_inj) (negPf ij).
rewrite mulr1n; case: j => [[|j] jn] /=.
  by rewrite subrr big1.
rewrite subr0 (bigD1 (Ordinal (ltnW jn))) //= eqxx big1 ?addr0 // => k.
rewrite -(inj_eq val_inj) /= => /negPf kj; by rewrite eqSS kj.
Qed.
Lemma shift_nonexpansive : nonexpansive J.
Proof.
move=> v; rewrite norm_le dot_mul mulmxA shift_gram mulmxBl mul1mx dotDl dotNl ler_subl_addl.
rewrite ler_addr; apply: sumr_ge0 => i _; rewrite mul_diag_mx !mxE -mulrA mulr_ge0 ?ler0n //.
by rewrite -expr2 sqr_ge0.
Qed.
Lemma shift_defect : (defect J <= 1)%N.
Proof.
rewrite /defect shift_gram opprB addrC subrK.
pose u : 'cV[R]_n := \col_i (i == 0%N :> nat)%:R.
have -> : diag_mx (\row_i (i == 0%N :> nat)%:R) = u *m u^T.
  apply/matrixP => i j; rewrite !mxE big_ord1 !mxE -natrM mulnb.
  have [->|ij] := eqVneq i j; first by rewrite andbb mulr1n.
  rewrite mulr0n; case: eqP => //= i0; case: eqP => // j0.
  by case/eqP: ij; apply: ord_inj; rewrite i0 j0.
exact: leq_trans (mxrankM_maxl _ _) (rank_leq_col _).
Qed.

(** DWD⁻¹ = J for W = εJ and D = diag(1, ε, ε², ...). *)
Lemma scaled_shift (ε : R) : ε != 0 -> scaled (\row_i ε ^+ i) (ε *: J) = J.
Proof.
move=> ε0; apply/matrixP => i j; rewrite !mxE; case: eqP => [<-|_].
  by rewrite mulr1 -exprSr mulfV // expf_neq0.
by rewrite !mulr0 mul0r.
Qed.
Lemma shift_contractive (ε : R) : 0 < ε < 1 -> forall v : 'cV_n, norm ((ε *: J) *m v) <= ε * norm v.
Proof.
move=> /andP[ε0 ε1] v; rewrite norm_le_sqr ?mulr_ge0 ?norm_ge0 ?(ltW ε0) // -scalemxAl dotZl dotZr.
rewrite exprMn norm_sqr mulrA -expr2 ler_wpmul2l ?sqr_ge0 // -norm_le.
exact: shift_nonexpansive.
Qed.
End Shift.

Theorem ours_shift_holds : ours_shift.
Proof.
move=> R n m p Θ X ε ε01 WE; have /andP[ε0 ε1] := ε01.
pose d : 'rV[R]_n := \row_i ε ^+ i.
have dW : scaled d (W Θ) = shift R n by rewrite WE scaled_shift ?gt_eqF.
exists (n + defect (scaled d (W Θ)))%N; first by rewrite dW leq_add2l shift_defect.
apply: unitary_of_scaling => [i||]; first by rewrite mxE exprn_gt0.
  exists ε => [|v]; first by rewrite ltW.
  by rewrite WE shift_contractive.
by rewrite dW; apply: shift_nonexpansive.
Qed.

Theorem ours_no_floor_holds : ours_no_floor.
Proof.
move=> R n X δ δ0; pose ε := Num.min 2%:R^-1 (δ / (2%:R * `|X| + 1)).
have s0 : 0 < 2%:R * `|X| + 1 by rewrite ltr_paddl ?mulr_ge0 ?ler0n.
have ε0 : 0 < ε by rewrite lt_minr invr_gt0 ltr0n divr_gt0.
have ε2 : ε <= 2%:R^-1 by rewrite le_minl lexx.
have half : (2%:R^-1 : R) < 1 by rewrite invf_lt1 ?ltr0n // ltr1n.
have ε1 : ε < 1 by apply: le_lt_trans half.
have ε01 : 0 < ε < 1 by rewrite ε0.
have εX : ε * (2%:R * `|X|) <= δ.
  apply: (@le_trans _ _ (ε * (2%:R * `|X| + 1))); first by rewrite ler_wpmul2l ?ltW // ltr_addl.
  by rewrite -ler_pdivl_mulr // le_minl lexx orbT.
pose Θ : RNN R n n n := Rnn (ε *: shift R n) 1%:M 0 1%:M 0.
have [N Nn [Θ' [oU eq]]] := ours_shift_holds (Θ := Θ) X ε01 erefl.
exists N => //; exists Θ' => // T x xX k kT; rewrite -(eq T x xX k kT) /output /= !mul1mx.
have W1 := shift_contractive (n := n) ε01.
have F1 (u : 'cV[R]_n) : norm (F Θ *m u) <= 1 * norm u by rewrite mul1mx mul1r.
have c01 : 0 <= ε < 1 by rewrite ltW.
have bnd := @state_bound R n n n Θ ε 1 X x T c01 W1 F1 ler01 xX k (ltnW kT).
set s := state _ _ _ _ in bnd *.
have X0 : 0 <= X by apply: le_trans (norm_ge0 (x k)) (xX k kT).
have sX : norm s <= 2%:R * `|X|.
  apply: le_trans bnd _; rewrite /= norm0 mul1r addr0 le_maxl mulr_ge0 ?ler0n //=.
  rewrite ger0_norm // ler_pdivr_mulr ?subr_gt0 // mulrAC; apply: ler_pemull X0 _.
  have : 2%:R * ε <= 1 by rewrite -ler_pdivl_mull ?ltr0n // mulr1.
  by rewrite mulrBr mulr1 => h; rewrite ler_subr_addr -[X in _ <= X]/(1 + 1) ler_add2l.
apply: le_trans εX; apply: (@le_trans _ _ (norm ((ε *: shift R n) *m s))).
  rewrite !mul0mx add0r !addr0 norm_le; move: (ε *: _ *m s) => y.
  apply: ler_sum => i _; rewrite -!expr2.
  have -> : (map_mx (@relu R) (x k) - map_mx (@relu R) (y + x k)) i 0
            = relu (x k i 0) - relu (y i 0 + x k i 0).
    by rewrite !mxE.
  apply: le_trans (relu_lipschitz _ _) _.
  by rewrite opprD addrCA subrr addr0 sqrrN.
by apply: le_trans (W1 _) _; rewrite ler_wpmul2l // ltW.
Qed.
