(** * Theorem 3 is sharp: nT states suffice, with an orthogonal recurrent matrix *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements DelayChain Theorem3Derivative.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(** The dilation of the memoryless teacher's W = 0 swaps the states with the block. *)
Lemma memoryless_dilation (R : realFieldType) n :
  orthogonal (block_mx (W (memoryless R n)) 1%:M 1%:M 0).
Proof.
rewrite /orthogonal /= tr_block_mx !trmx0 trmx1 mulmx_block.
by rewrite !mulmx0 !mul0mx !mulmx1 !addr0 add0r -scalar_mx_block.
Qed.

Theorem theorem3_attained_holds : theorem3_attained.
Proof.
move=> R φ n [|T].
  exists (Rnn 1%:M 0 0 0 0); split=> [|//].
  by rewrite /orthogonal trmx1 mulmx1.
apply: (chain_network φ (memoryless_dilation R n)).
by rewrite mulnS.
Qed.

(** ** Theorem 3 is not empty, and nT cannot be raised
    All its hypotheses hold at once with N = nT: φ the identity here, of derivative 1. *)
Lemma hypotheses_hold (R : realFieldType) n T (c : nat -> 'cV[R]_n) (ε : R) :
  exists Θ : RNN R (n * T) n n, [/\ forall z : R, derivative id z 1, (1 : R) != 0,
    W Θ \in unitmx & equal_over id T (fun k x => forall i, `|x i 0 - c k i 0| < ε)
                                 (memoryless R n) Θ].
Proof.
have [Θ [orth equal]] := @theorem3_attained_holds R id n T.
exists Θ; split; first 1 last.
- exact: oner_neq0.
- by case/mulmx1_unit: orth.
- by move=> x _; exact: equal.
by move=> z; apply: derivative_ext (derivative_affine 0 z 1) => t; rewrite add0r mul1r.
Qed.

(** ** What the hypotheses of theorem 3 are for *)
(** Without an invertible recurrence the teacher is its own student, of n < nT states for T > 1. *)
Lemma invertible_needed (R : realFieldType) (φ : R -> R) n T : (0 < n)%N -> (1 < T)%N ->
  exists Θ : RNN R n n n,
    equal_over φ T (fun _ _ => True) (memoryless R n) Θ /\ (n * T <= n)%N = false.
Proof.
move=> n0 T1; exists (memoryless R n); split=> //.
by rewrite -[X in (_ <= X)%N]muln1 leq_pmul2l // leqNgt T1.
Qed.

(** With φ′ = 0 everywhere a student without states does. *)
Lemma slope_needed (R : realFieldType) n T :
  exists2 Θ : RNN R 0 n n, orthogonal (W Θ) &
    equal_over (fun=> 0) T (fun _ _ => True) (memoryless R n) Θ.
Proof.
exists (Rnn 1%:M 0 0 0 0); first by rewrite /orthogonal trmx1 mulmx1.
move=> x _ k _; apply/matrixP => i j; rewrite /output /= mul1mx !mul0mx.
by rewrite !mxE.
Qed.
