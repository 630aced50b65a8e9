(** * Theorem 1: n contractive states become n + rank(I - WᵀW) <= 2n unitary states *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements RingTactic Norm Dilation.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Theorem1.
Variables (R : rcfType) (n m p : nat).
Implicit Types (Θ : RNN R n m p) (x : nat -> 'cV[R]_m).
Local Notation relu := (@Statements.relu R).

Lemma contractive_nonexpansive (V : 'M[R]_n) : contractive V -> nonexpansive V.
Proof.
move=> [c /andP[_ c1] Vc] v; apply: le_trans (Vc v) _.
by rewrite ler_pimull ?norm_ge0 // ltW.
Qed.

(** Step 2, the URNN: with the bias -M the new block never switches on, and the first block runs
    the original recursion. [M] is any bound on the states. *)
Definition unitary_network Θ r (U : 'M[R]_(n + r)) (M : R) : RNN R (n + r) m p :=
  Rnn U (col_mx (F Θ) 0) (col_mx (b Θ) (const_mx (- M))) (row_mx (C Θ) 0) (col_mx (hinit Θ) 0).

Lemma new_block_off Θ r B (K : 'M[R]_(r, n)) S (M : R) x T :
  (forall v, norm (K *m v) <= norm v) ->
  (forall k, (k <= T)%N -> norm (state relu Θ x k) <= M) ->
  forall k, (k <= T)%N ->
    state relu (unitary_network Θ (block_mx (W Θ) B K S) M) x k = col_mx (state relu Θ x k) 0.
Proof.
move=> K1 hM; elim=> [//|k IH] kT /=; rewrite IH ?(ltnW kT) //.
rewrite mul_block_col mul_col_mx !mulmx0 !addr0 mul0mx !add_col_mx addr0 map_col_mx.
congr col_mx; apply/matrixP => i j; rewrite ord1.
rewrite [LHS]mxE [X in relu X]mxE [const_mx _ _ _]mxE [RHS]mxE.
rewrite relu_neg // subr_le0.
apply: le_trans (ler_norm _) _; apply: le_trans (entry_norm _ _) _.
by apply: le_trans (K1 _) _; rewrite hM // ltnW.
Qed.

(** The same for any non-expansive recurrence whose states stay bounded on the inputs considered. *)
Lemma unitary_of_bounded Θ (A : nat -> 'cV[R]_m -> Prop) (M : R) :
  nonexpansive (W Θ) ->
  (forall x T, (forall k, (k < T)%N -> A k (x k)) ->
     forall k, (k <= T)%N -> norm (state relu Θ x k) <= M) ->
  exists Θ' : RNN R (n + defect (W Θ)) m p, orthogonal (W Θ') /\
    forall T, equal_over relu T A Θ Θ'.
Proof.
move=> nexp bnd; have [K [B [S [KK oU]]]] := dilation nexp.
exists (unitary_network Θ (block_mx (W Θ) B K S) M); split=> // T x xA k kT.
have K1 v : norm (K *m v) <= norm v.
  rewrite norm_le [X in X <= _]dot_mul mulmxA KK dotC dot_defect ler_subl_addr ler_addl.
  exact: dot_ge0.
rewrite /output (@new_block_off Θ _ B K S M x T) ?mul_row_col ?mul0mx ?addr0 //.
exact: bnd.
Qed.

(** Step 3, the finite M: contraction and bounded inputs bound the state. *)
Lemma state_bound Θ (c f X : R) x T :
  0 <= c < 1 -> (forall v, norm (W Θ *m v) <= c * norm v) ->
  (forall u, norm (F Θ *m u) <= f * norm u) -> 0 <= f ->
  (forall k, (k < T)%N -> norm (x k) <= X) ->
  forall k, (k <= T)%N ->
    norm (state relu Θ x k) <= Num.max (norm (hinit Θ)) ((f * X + norm (b Θ)) / (1 - c)).
Proof.
move=> /andP[c0 c1] Wc Ff f0 xX; set M := Num.max _ _.
have cM : f * X + norm (b Θ) <= (1 - c) * M.
  by rewrite [_ * M]mulrC -ler_pdivr_mulr ?subr_gt0 // /M le_maxr lexx orbT.
elim=> [|k IH] kT /=; first by rewrite /M le_maxr lexx.
apply: le_trans (norm_relu _) _; apply: le_trans (norm_triangle _ _) _.
apply: le_trans (ler_add (norm_triangle _ _) (lexx _)) _; rewrite -addrA.
apply: (@le_trans _ _ (c * M + (f * X + norm (b Θ)))).
  apply: ler_add; last apply: ler_add => //.
    by apply: le_trans (Wc _) _; rewrite ler_wpmul2l // IH // ltnW.
  by apply: le_trans (Ff _) _; rewrite ler_wpmul2l // xX.
by apply: le_trans (ler_add (lexx _) cM) _; rewrite mulrBl mul1r addrC subrK.
Qed.
End Theorem1.

Theorem theorem1_bound_holds : theorem1_bound.
Proof.
move=> R n m p Θ c f X x c01 Wc Ff f0 xX k.
by apply: (state_bound (T := k) c01 Wc Ff f0) => // j _; apply: xX.
Qed.

Theorem theorem1_holds : theorem1.
Proof.
move=> R n m p Θ X contr; split; first by rewrite mul2n -addnn leq_add2l rank_leq_row.
have [c c01 Wc] := contr; have [f f0 Ff] := norm_bound (F Θ).
apply: unitary_of_bounded; first exact: contractive_nonexpansive.
by move=> x T xX; apply: (state_bound c01 Wc Ff f0 xX).
Qed.

Theorem theorem1_poster_holds : theorem1_poster.
Proof.
move=> R n m p Θ X contr; have [le [Θ' [oU eq]]] := @theorem1_holds R n m p Θ X contr.
by exists (n + defect (W Θ))%N => //; exists Θ'.
Qed.
