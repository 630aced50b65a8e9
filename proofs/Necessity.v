(** * Every hypothesis can hold, and none of the numbers can be better
    The mutated statements are refuted, not only unproved. *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements StatementsOurs Norm Theorem1 Theorem2.
From Proofs Require Import Theorem3Derivative Theorem3 Theorem3Attained.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(** Theorem 1's hypothesis holds for the memoryless teacher of theorem 2, of defect n. *)
Lemma memoryless_defect (R : rcfType) n : defect (W (memoryless R n)) = n.
Proof. by rewrite /defect /= mulmx0 subr0 mxrank1. Qed.

Lemma equal_refl (R : realFieldType) (φ : R -> R) T n m p A (Θ : RNN R n m p) :
  equal_over φ T A Θ Θ.
Proof. by []. Qed.

Section Mutants.
Variable R : rcfType.
Local Notation relu := (@Statements.relu R).

(** Theorem 1 with one state less. *)
Lemma theorem1_one_state_less : ~ forall n m p (Θ : RNN R n m p) (X : R), contractive (W Θ) ->
  exists Θ' : RNN R (n + (defect (W Θ)).-1) m p, orthogonal (W Θ') /\
    forall T, equal_over relu T (bounded X) Θ Θ'.
Proof.
move=> /(_ _ _ _ _ 1 (memoryless_contractive R 1)); rewrite memoryless_defect => -[Θ [oU eq]].
have : (2 * 1 <= 1 + 1.-1)%N; last by [].
apply: (theorem2_holds ltr01 (orthogonal_invertible oU)) => x xX k k2.
apply: (eq 2%N x) k2 => l l2; rewrite /bounded norm_le_sqr ?ler01 // /dot big_ord1 expr1n -expr2.
by rewrite -(real_normK (num_real _)) expr_le1 ?xX.
Qed.

(** Theorem 2 with 2n + 1, and without "invertible". *)
Lemma theorem2_one_state_more : ~ forall n N (Θ : RNN R N n n) (X : R), 0 < X ->
  W Θ \in unitmx -> equal_over relu 2 (fun _ x => forall i, `|x i 0| <= X) (memoryless R n) Θ ->
  (2 * n + 1 <= N)%N.
Proof.
move=> thm; have [Θ [oU eq]] := theorem2_attained_holds R 1%N.
have : (2 * 1 + 1 <= 2 * 1)%N; last by [].
by apply: (thm _ _ Θ 1 ltr01 (orthogonal_invertible oU)) => x _ k k2; apply: eq k2.
Qed.
Lemma theorem2_without_invertible : ~ forall n N (Θ : RNN R N n n) (X : R), 0 < X ->
  equal_over relu 2 (fun _ x => forall i, `|x i 0| <= X) (memoryless R n) Θ -> (2 * n <= N)%N.
Proof. by move=> /(_ 1%N 1%N (memoryless R 1) 1 ltr01 (@equal_refl _ _ _ _ _ _ _ _)). Qed.
(** Theorem 2 with one step instead of two. *)
Lemma theorem2_one_step : ~ forall n N (Θ : RNN R N n n) (X : R), 0 < X -> W Θ \in unitmx ->
  equal_over relu 1 (fun _ x => forall i, `|x i 0| <= X) (memoryless R n) Θ -> (2 * n <= N)%N.
Proof.
move=> thm; have : (2 * 1 <= 1)%N; last by [].
apply: (thm _ _ (Rnn 1%:M 1%:M 0 1%:M 0) 1 ltr01 (unitmx1 _ _)) => x _ [|//] _.
by rewrite /output /= !mulmx0.
Qed.
End Mutants.

(** Theorem 3 with nT + 1, for any φ whatever; without "invertible", and without φ' <> 0, it is
    refuted in Theorem3Attained.v ([invertible_needed], [slope_needed]). *)
Section Mutants3.
Variables (R : realFieldType) (φ : R -> R).
Lemma theorem3_one_state_more : ~ forall n N T (Θ : RNN R N n n) (c : nat -> 'cV[R]_n) (ε : R),
  0 < ε -> W Θ \in unitmx ->
  equal_over φ T (fun k x => forall i, `|x i 0 - c k i 0| < ε) (memoryless R n) Θ ->
  (n * T + 1 <= N)%N.
Proof.
move=> thm; have [Θ [oU eq]] := theorem3_attained_holds φ 1%N 1%N.
have : (1 * 1 + 1 <= 1 * 1)%N; last by [].
by apply: (thm _ _ _ Θ (fun _ => 0) 1 ltr01 (orthogonal_invertible oU)) => x _ k k1; apply: eq k1.
Qed.
End Mutants3.

(** ** What the refutations of mutants.txt share *)
Section Shared.
Variable R : rcfType.

Lemma derivative_id z : derivative (id : R -> R) z 1.
Proof. by apply: derivative_ext (derivative_affine 0 z 1) => t; rewrite add0r mul1r. Qed.
Lemma scaled0 n (d : 'rV[R]_n) : scaled d 0 = 0.
Proof. by apply/matrixP => i j; rewrite !mxE mulr0 mul0r. Qed.

(** A ball that holds the box of side 1 of theorem 2. *)
Definition unit_box n : R := n.+1%:R.
Lemma memoryless_in_ball n N (Θ : RNN R N n n) : orthogonal (W Θ) ->
  (forall T, equal_over (@relu R) T (bounded (unit_box n)) (memoryless R n) Θ) -> (2 * n <= N)%N.
Proof.
move=> oU eq; apply: (theorem2_holds ltr01 (orthogonal_invertible oU)) => x xX; apply: eq => k k2.
apply: norm_box => [|i]; first by rewrite ler0n.
by rewrite divff ?pnatr_eq0 //; apply: xX.
Qed.
End Shared.
