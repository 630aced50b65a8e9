(** * The logistic instance of theorem 3: φ′ = φ (1 - φ) has no zero *)
From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import boolp classical_sets reals topology normedtype derive realfun.
From mathcomp Require Import sequences landau exp.
From Proofs Require Import Statements StatementsLogistic Norm Theorem2 Theorem3.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Import numFieldNormedType.Exports.
Local Open Scope ring_scope.

Section Logistic.
Variable R : realType.
Implicit Types z d : R.

(** The library's derivative is the one of Statements.v. *)
Lemma is_derive_derivative (f : R -> R) z d : is_derive z 1 f d -> derivative f z d.
Proof.
move=> [df <-] ε ε0.
have /eqaddoP/(_ ε ε0)/nbhs_ballP[δ δ0 near] := derivable_nbhs df.
exists δ => // t tδ; have := near t; rewrite /ball /= sub0r normrN => /(_ tδ).
rewrite -[X in `|X| <= _ -> _]/(f (t * 1 + z) - (f z + t * 'D_1 f z)).
rewrite mulr1 opprD addrA [t + z]addrC [t * _]mulrC => bound.
exact: bound.
Qed.

(** By the chain rule φ′(z) = e⁻ᶻ / (1 + e⁻ᶻ)². *)
Definition dlogistic z : R := expR (- z) / (1 + expR (- z)) ^+ 2.

Lemma logistic_pos z : 0 < 1 + expR (- z).
Proof. by rewrite addr_gt0 ?ltr01 ?expR_gt0. Qed.

Lemma is_derive_logistic z : is_derive z 1 (@logistic R) (dlogistic z).
Proof.
have dexp : is_derive z 1 (fun t : R => expR (- t)) (- expR (- z)).
  apply: is_derive_eq (is_derive1_comp (is_derive_expR (- z)) (is_deriveNid z 1)) _.
  by rewrite mulrN1.
have dsum : is_derive z 1 (fun t : R => 1 + expR (- t)) (- expR (- z)).
  apply: is_derive_eq (is_deriveD (is_derive_cst 1 z 1) dexp) _.
  by rewrite add0r.
apply: is_derive_eq (is_deriveV _ dsum) _; first by rewrite gt_eqF ?logistic_pos.
by rewrite scaleNr scalerN opprK /dlogistic mulrC.
Qed.

Lemma dlogistic_neq0 z : dlogistic z != 0.
Proof. by rewrite gt_eqF // divr_gt0 ?exprn_gt0 ?expR_gt0 ?logistic_pos. Qed.

(** The familiar form φ′ = φ (1 - φ). *)
Lemma dlogisticE z : dlogistic z = logistic z * (1 - logistic z).
Proof.
have nz : 1 + expR (- z) != 0 by rewrite gt_eqF ?logistic_pos.
rewrite /dlogistic /logistic -[X in _ * (X - _)](divff nz) -[X in _ - X]mul1r -mulrBl.
by rewrite [1 + _ - 1]addrAC subrr add0r mulrCA expr2 invfM.
Qed.
End Logistic.

Theorem theorem3_logistic_holds : theorem3_logistic.
Proof.
move=> R n N T Θ c ε ε0 invW equal.
have slope z : derivative (@logistic R) z (dlogistic z).
  by apply: is_derive_derivative; exact: is_derive_logistic.
exact: theorem3_holds slope (@dlogistic_neq0 R) _ _ _ _ _ _ ε0 invW equal.
Qed.

(** With one input and T = N + 1 steps. *)
Theorem theorem3_poster_holds : theorem3_poster.
Proof.
move=> R; exists 1%N, 1%N, 1%N, (memoryless R 1); first exact: memoryless_contractive.
move=> X N Θ X0 oU equal; have X2 : 0 < X / 2%:R by rewrite divr_gt0 // ltr0n.
have := @theorem3_logistic_holds R 1%N N N.+1 Θ (fun=> 0) _ X2 (orthogonal_invertible oU).
rewrite mul1n ltnn => thm; suff : false by []; apply: thm => x xX.
apply: equal => k kT; apply: norm_box (ltW X0) _ => i.
by have := xX k kT i; rewrite mxE subr0 => /ltW.
Qed.
