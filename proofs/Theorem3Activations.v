(** * Theorem 3's hypotheses hold for tanh and softplus as well *)
From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import boolp classical_sets reals topology normedtype derive realfun.
From mathcomp Require Import sequences exp.
From Proofs Require Import Statements StatementsLogistic Theorem3Derivative Theorem3Logistic.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Import numFieldNormedType.Exports.
Local Open Scope ring_scope.

Section Activations.
Variable R : realType.
Implicit Types z : R.

Definition tanh z : R := (expR z - expR (- z)) / (expR z + expR (- z)).
Definition softplus z : R := ln (1 + expR z).

(** tanh z = 2 σ(2z) - 1, so that tanh′ z = 4 σ′(2z). *)
Lemma tanh_logistic z : tanh z = -1 + 2%:R * logistic (0 + 2%:R * z).
Proof.
have e0 : expR z != 0 by rewrite gt_eqF ?expR_gt0.
have pos : expR z + expR (- z) != 0 by rewrite gt_eqF // addr_gt0 ?expR_gt0.
have -> : logistic (0 + 2%:R * z) = expR z / (expR z + expR (- z)).
  rewrite add0r mulr_natl mulr2n /logistic opprD expRD.
  have -> : expR z + expR (- z) = expR z * (1 + expR (- z) * expR (- z)).
    by rewrite mulrDr mulr1 mulrA expRxMexpNx_1 mul1r.
  by rewrite invfM mulrA divff // mul1r.
apply: (mulIf pos); rewrite /tanh divfK // mulrDl mulrA divfK // mulN1r mulr_natl mulr2n.
by rewrite [RHS]addrC opprD addrA addrK.
Qed.

Lemma derivative_tanh z :
  exists2 d, derivative tanh z d & d != 0.
Proof.
pose e := dlogistic (0 + 2%:R * z).
exists (0 + 2%:R * (e * 2%:R)); last first.
  rewrite add0r; apply: mulf_neq0; first by rewrite pnatr_eq0.
  by apply: mulf_neq0; [exact: dlogistic_neq0 | rewrite pnatr_eq0].
apply: (@derivative_ext _ (fun t => -1 + 2%:R * logistic (0 + 2%:R * t))) => [t|].
  by rewrite tanh_logistic.
apply: derivativeD; first exact: derivative_cst.
apply: derivativeZ; apply: derivative_comp; first exact: derivative_affine.
by apply: is_derive_derivative; exact: is_derive_logistic.
Qed.

Lemma derivative_softplus z :
  exists2 d, derivative softplus z d & d != 0.
Proof.
have pos : 0 < 1 + expR z by rewrite addr_gt0 ?ltr01 ?expR_gt0.
exists ((1 + expR z)^-1 * (0 + expR z)).
  apply: (@derivative_comp R (@ln R) (fun t => 1 + expR t)); apply: is_derive_derivative.
  exact: is_derive1_ln.
by rewrite add0r mulf_neq0 ?invr_eq0 ?gt_eqF ?expR_gt0.
Qed.
End Activations.
