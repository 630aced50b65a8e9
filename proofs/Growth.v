(** * An expansive recurrence outgrows every unitary network
    h⁽ᵏ⁾ = ReLU(2 h⁽ᵏ⁻¹⁾) from 1 gives 2ᵏ, and the states of an orthogonal network grow at most
    linearly: contraction cannot be dropped from theorem 1. Over an archimedean field, as the
    real numbers are. *)
From mathcomp Require Import all_ssreflect all_algebra realalg.
From Proofs Require Import Statements RingTactic Norm.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Growth.
Variable R : rcfType.
Local Notation relu := (@Statements.relu R).
Definition doubling : RNN R 1 1 1 := Rnn 2%:R%:M 0 0 1%:M 1%:M.

Lemma doubling_state x k : state relu doubling x k = (2%:R ^+ k)%:M.
Proof.
elim: k => [//|k IH] /=; rewrite IH mul0mx !addr0 -scalar_mxM -exprS.
apply/matrixP => i j; rewrite !ord1 !mxE eqxx !mulr1n relu_pos //.
by rewrite exprn_ge0 // ler0n.
Qed.

Lemma orthogonal_growth N (Θ : RNN R N 1 1) k : orthogonal (W Θ) ->
  norm (state relu Θ (fun=> 0) k) <= norm (hinit Θ) + k%:R * norm (b Θ).
Proof.
move=> oU; elim: k => [|k IH]; first by rewrite mul0r addr0.
rewrite [state _ _ _ _]/= mulmx0 addr0 (le_trans (norm_relu _)) // (le_trans (norm_triangle _ _)) //.
rewrite -[k.+1]addn1 natrD mulrDl mul1r addrA ler_add2r; apply: le_trans IH.
by rewrite norm_le dot_orthogonal.
Qed.

Lemma doubling_bound N (Θ : RNN R N 1 1) (X : R) : 0 <= X -> orthogonal (W Θ) ->
  (forall T, equal_over relu T (bounded X) doubling Θ) -> exists2 a : R, 0 <= a &
  forall k, 2%:R ^+ k <= a * k.+1%:R.
Proof.
move=> X0 oU equal; have [c c0 Cc] := norm_bound (C Θ).
exists (c * (norm (hinit Θ) + norm (b Θ))) => [|k].
  by rewrite mulr_ge0 ?addr_ge0 ?norm_ge0.
have := equal k.+1 (fun=> 0) _ k (ltnSn k); rewrite /output doubling_state mul1mx => E.
have {}E : (2%:R ^+ k.+1)%:M = C Θ *m state relu Θ (fun=> 0) k.+1.
  by apply: E => j _; rewrite /bounded norm0.
apply: (@le_trans _ _ (2%:R ^+ k.+1)); first by rewrite ler_eexpn2l ?ltr1n.
have {1}-> : 2%:R ^+ k.+1 = (C Θ *m state relu Θ (fun=> 0) k.+1) 0 0 by rewrite -E mxE mulr1n.
rewrite (le_trans (ler_norm _)) // (le_trans (entry_norm _ _)) // (le_trans (Cc _)) //.
rewrite -mulrA ler_wpmul2l // (le_trans (orthogonal_growth _ oU)) // mulrDl.
rewrite [_%:R * norm (b _)]mulrC ler_add2r -[X in X <= _]mulr1 ler_wpmul2l ?norm_ge0 //.
by rewrite -[1]/(1%:R) ler_nat.
Qed.
End Growth.

Lemma exponential_outgrows (K : archiFieldType) (a : K) : 0 <= a ->
  exists k, a * k.+1%:R < 2%:R ^+ k.
Proof.
move=> a0; pose j := Num.bound (2%:R * a); exists (2 * j)%N.
have aj : 2%:R * a < j%:R by have := archi_boundP (mulr_ge0 (ler0n K 2) a0).
have sq : (j.+1 ^ 2 <= 2 ^ (2 * j))%N by rewrite mulnC expnM leq_exp2r // ltn_expl.
rewrite (@lt_le_trans _ _ (j.+1 ^ 2)%:R) //; last by rewrite -natrX ler_nat.
apply: (@le_lt_trans _ _ (a * (2 * j.+1)%:R)).
  by rewrite ler_wpmul2l // ler_nat mulnS add2n ltnS leqnSn.
rewrite natrM mulrA [a * _]mulrC expnS expn1 natrM ltr_pmul2r ?ltr0n //.
by apply: lt_trans aj _; rewrite ltr_nat.
Qed.

(** No unitary network of any size has the outputs of the doubling one. *)
Lemma doubling_alone N (Θ : RNN realalg_rcfType N 1 1) (X : realalg) : 0 <= X -> orthogonal (W Θ) ->
  ~ forall T, equal_over (@relu _) T (bounded X) (doubling realalg_rcfType) Θ.
Proof.
move=> X0 oU /(doubling_bound X0 oU)[a a0 le].
have [k] := @exponential_outgrows [archiFieldType of realalg] a a0.
by rewrite ltNge => /negP; apply; apply: le.
Qed.
