(** * Equal networks are equally parallel: Newton's guesses coincide
    Every guess of the contractive network stays in the ball of the states, though it is no
    trajectory; so the new units of theorem 1's network are off at every guess. *)
From mathcomp Require Import all_ssreflect all_algebra complex.
From Proofs Require Import Statements StatementsLinear RingTactic Norm Dilation Theorem1.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Parallel.
Variables (R : rcfType) (n m p : nat).
Implicit Types (Θ : RNN R n m p) (x : nat -> 'cV[R]_m).

Lemma newtonS N (Θ : RNN R N m p) x s k : newton Θ x s.+1 k.+1 =
  active Θ (newton Θ x s k) (x k) *m (W Θ *m newton Θ x s.+1 k + F Θ *m x k + b Θ).
Proof. by []. Qed.

Lemma norm_active N (Θ : RNN R N m p) g u v : norm (active Θ g u *m v) <= norm v.
Proof.
rewrite norm_le; apply: ler_sum => i _; rewrite -!expr2 mul_diag_mx !mxE.
by case: (0 < _); rewrite ?mul1r // mul0r expr0n /= sqr_ge0.
Qed.

Lemma newton_bound Θ (c f X : R) x : 0 <= c < 1 ->
  (forall v, norm (W Θ *m v) <= c * norm v) -> (forall u, norm (F Θ *m u) <= f * norm u) ->
  0 <= f -> (forall k, norm (x k) <= X) -> forall s k,
  norm (newton Θ x s k) <= Num.max (norm (hinit Θ)) ((f * X + norm (b Θ)) / (1 - c)).
Proof.
move=> /andP[c0 c1] Wc Ff f0 xX; set M := Num.max _ _.
have cM : f * X + norm (b Θ) <= (1 - c) * M.
  by rewrite [_ * M]mulrC -ler_pdivr_mulr ?subr_gt0 // /M le_maxr lexx orbT.
have M0 : norm (hinit Θ) <= M by rewrite /M le_maxr lexx.
case=> [|s]; first by case=> [//|k]; rewrite /= norm0 (le_trans (norm_ge0 _) M0).
elim=> [//|k IH]; rewrite newtonS (le_trans (norm_active _ _ _ _)) //.
rewrite (le_trans (norm_triangle _ _)) // (le_trans (ler_add (norm_triangle _ _) (lexx _))) //.
rewrite -addrA (@le_trans _ _ (c * M + (f * X + norm (b Θ)))) //.
  apply: ler_add; last by rewrite ler_add // (le_trans (Ff _)) // ler_wpmul2l.
  by rewrite (le_trans (Wc _)) // ler_wpmul2l.
by rewrite (le_trans (ler_add (lexx _) cM)) // mulrBl mul1r addrC subrK.
Qed.

Lemma unitary_pre Θ r B (K : 'M[R]_(r, n)) S (M : R) h u :
  let Θ' := unitary_network Θ (block_mx (W Θ) B K S) M in
  W Θ' *m col_mx h 0 + F Θ' *m u + b Θ'
  = col_mx (W Θ *m h + F Θ *m u + b Θ) (K *m h - const_mx M).
Proof.
rewrite /= mul_block_col mul_col_mx !mulmx0 !addr0 mul0mx !add_col_mx addr0.
by congr col_mx; congr (_ + _); apply/matrixP => i j; rewrite !mxE.
Qed.

Lemma newton_off Θ r B (K : 'M[R]_(r, n)) S (M : R) x :
  (forall v, norm (K *m v) <= norm v) -> (forall s k, norm (newton Θ x s k) <= M) ->
  forall s k, newton (unitary_network Θ (block_mx (W Θ) B K S) M) x s k
              = col_mx (newton Θ x s k) 0.
Proof.
move=> K1 small; elim=> [|s IHs]; first by case=> [//|k]; rewrite /= col_mx0.
elim=> [//|k IHk]; rewrite !newtonS IHs IHk /active !unitary_pre.
apply/matrixP => i j; rewrite ord1 mul_diag_mx [LHS]mxE [X in X * _]mxE.
case: (split_ordP i) => a ->.
  by rewrite !col_mxEu mul_diag_mx [RHS]mxE [X in _ = X * _]mxE.
rewrite !col_mxEd [RHS]mxE ltNge [X in ~~ X](_ : _ = true) ?mul0r //.
rewrite mxE [(- _ : 'cV_r) a 0]mxE [const_mx _ _ _]mxE subr_le0 (le_trans (ler_norm _)) //.
by rewrite (le_trans (entry_norm _ _)) // (le_trans (K1 _)).
Qed.
End Parallel.

Theorem ours_newton_holds : ours_newton.
Proof.
move=> R n m p Θ X contr; have nexp := contractive_nonexpansive contr.
have [c c01 Wc] := contr; have [f f0 Ff] := norm_bound (F Θ).
have [K [B [S [KK oU]]]] := dilation nexp.
have K1 v : norm (K *m v) <= norm v.
  rewrite norm_le [X in X <= _]dot_mul mulmxA KK dotC dot_defect ler_subl_addr ler_addl.
  exact: dot_ge0.
pose M := Num.max (norm (hinit Θ)) ((f * X + norm (b Θ)) / (1 - c)).
exists (unitary_network Θ (block_mx (W Θ) B K S) M); split=> // [T x xX k kT|x xX s k].
  rewrite /output (@new_block_off _ _ _ _ Θ _ B K S M x T) ?mul_row_col ?mul0mx ?addr0 //.
  exact: (state_bound c01 Wc Ff f0 xX).
apply: newton_off => // s' k'; exact: (newton_bound c01 Wc Ff f0 xX).
Qed.
