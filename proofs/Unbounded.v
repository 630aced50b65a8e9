(** * Orthogonal matrices that hold W: how small, and without a bound on the inputs (ours 1c) *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements StatementsOurs RingTactic Norm Dilation.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Theorem ours_minimal_holds : ours_minimal.
Proof.
move=> R n k V B K S; rewrite /orthogonal tr_block_mx mulmx_block scalar_mx_block.
move=> /eq_block_mx[e _ _ _]; rewrite /defect -e addrC addKr.
exact: leq_trans (mxrankM_maxr _ _) (rank_leq_row _).
Qed.

(** With -K for the lower block and bias 0 the new units receive -K h <= 0. *)
Theorem ours1c_holds : ours1c.
Proof.
move=> R n m p k Θ K K0 KK Kh.
have [|P oP] := @complete_orthogonal R n k (col_mx (W Θ) (- K)).
  have KT : (- K)^T = - K^T by rewrite linearN.
  by rewrite tr_col_mx mul_row_col KT mulNmx mulmxN opprK KK addrC subrK.
pose U := block_mx (W Θ) (usubmx P) (- K) (dsubmx P).
exists (Rnn U (col_mx (F Θ) 0) (col_mx (b Θ) 0) (row_mx (C Θ) 0) (col_mx (hinit Θ) 0)).
split; first by rewrite /= /U block_mxEh vsubmxK.
move=> T x _ l _.
have off j : state (@relu R) (Rnn U (col_mx (F Θ) 0) (col_mx (b Θ) 0) (row_mx (C Θ) 0)
    (col_mx (hinit Θ) 0)) x j = col_mx (state (@relu R) Θ x j) 0.
  elim: j => [//|j IH]; rewrite /= IH mul_block_col mul_col_mx !mulmx0 !addr0 mul0mx.
  rewrite !add_col_mx !addr0 map_col_mx; congr col_mx.
  apply/matrixP => i c; rewrite ord1 [LHS]mxE [RHS]mxE mulNmx mxE relu_neg // oppr_le0.
  case: j {IH} => [|j]; first exact: Kh.
  rewrite mxE; apply: sumr_ge0 => a _; rewrite mulr_ge0 // [state _ _ _ _]/= mxE.
  exact: relu_ge0.
by rewrite /output off mul_row_col mul0mx addr0.
Qed.
