(** * Theorem 3 is sharp: nT states suffice, with an orthogonal recurrent matrix *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements DelayChain.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import GRing.Theory.
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

(** ** What the hypotheses of theorem 3 are for *)
(** Without an invertible recurrence the teacher is its own student, with n states for ever. *)
Lemma invertible_needed (R : realFieldType) (φ : R -> R) n T :
  equal_over φ T (fun _ _ => True) (memoryless R n) (memoryless R n) /\
  (W (memoryless R n.+1) \in unitmx) = false.
Proof. by split; rewrite // unitmxE det0 unitr0. Qed.

(** With φ′ = 0 everywhere a student without states does. *)
Lemma slope_needed (R : realFieldType) n T :
  exists2 Θ : RNN R 0 n n, orthogonal (W Θ) &
    equal_over (fun=> 0) T (fun _ _ => True) (memoryless R n) Θ.
Proof.
exists (Rnn 1%:M 0 0 0 0); first by rewrite /orthogonal trmx1 mulmx1.
move=> x _ k _; apply/matrixP => i j; rewrite /output /= mul1mx !mul0mx.
by rewrite !mxE.
Qed.
