(** * The delay chain (section 3, "attained")
    What leaves W walks down a chain of T - 1 blocks of r states and returns only after T steps:
    n + r (T - 1) states with an orthogonal recurrent matrix repeat the teacher for T steps. *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.

Section DelayChain.
Variables (R : realFieldType) (φ : R -> R).

Lemma stateS n m p (Θ : RNN R n m p) x k :
  state φ Θ x k.+1 = map_mx φ (W Θ *m state φ Θ x k + F Θ *m x k + b Θ).
Proof. by []. Qed.

(** The teacher, and an orthogonal dilation [W B; L S] of its recurrent matrix. *)
Variables (n m p r : nat) (Θ : RNN R n m p).
Variables (B : 'M[R]_(n, r)) (L : 'M[R]_(r, n)) (S : 'M[R]_r).
Hypothesis dilation : orthogonal (block_mx (W Θ) B L S).

(** The chain rests at v = φ(v + β) in each of the r units of a block. Any φ has such a point:
    v = φ(0), β = -v. (The prose takes v = ½, β = -½ for the logistic function.) *)
Let v : 'cV[R]_r := const_mx (φ 0).
Let β : 'cV[R]_r := const_mx (- φ 0).

Lemma rest_point : map_mx φ (v + β) = v.
Proof. by apply/matrixP=> i j; rewrite mxE [(v + β) i j]mxE !mxE subrr. Qed.

(** A chain of d + r states: the last r are its tail, and P reads the n states of the teacher off
    the first d. The tail rests at v up to the state of index K, and whatever the first d states
    are, if the tail rests then the states read by P make a step of the teacher. *)
Record chain (K d : nat) := Chain {
  net : RNN R (d + r) m p;
  P : 'M[R]_(n, d);
  chain_orthogonal : orthogonal (W net);
  chain_output : C net = row_mx (C Θ *m P) 0;
  chain_read : forall z : 'cV_d, P *m map_mx φ z = map_mx φ (P *m z);
  chain_start : P *m usubmx (hinit net) = hinit Θ;
  chain_step : forall s y, dsubmx s = v ->
    P *m usubmx (W net *m s + F net *m y + b net) = W Θ *m (P *m usubmx s) + F Θ *m y + b Θ;
  chain_rest : forall x k, (k <= K)%N -> dsubmx (state φ net x k) = v }.

(** A chain follows the teacher one step longer than its tail rests. *)
Lemma chain_states K d (c : chain K d) x k : (k <= K.+1)%N ->
  P c *m usubmx (state φ (net c) x k) = state φ Θ x k.
Proof.
elim: k => [|k IH] leK; first exact: chain_start.
rewrite !stateS -map_usubmx chain_read chain_step; last exact: chain_rest.
by rewrite IH ?(ltnW leK).
Qed.

Lemma chain_exact K d (c : chain K d) x k : (k <= K)%N ->
  output φ (net c) x k = output φ Θ x k.
Proof.
move=> leK; rewrite /output chain_output -[state φ (net c) x k.+1]vsubmxK.
by rewrite mul_row_col mul0mx addr0 -mulmxA chain_states.
Qed.

(** ** One block
    The dilation itself. The constant B v which the block feeds back goes into the bias; the bias
    of the block absorbs L h₋₁, so that it is still at rest after the first step. *)
Definition block_net : RNN R (n + r) m p := {|
  W := block_mx (W Θ) B L S;
  F := col_mx (F Θ) 0;
  b := col_mx (b Θ - B *m v) (v + β - (L *m hinit Θ + S *m v));
  C := row_mx (C Θ *m 1%:M) 0;
  hinit := col_mx (hinit Θ) v |}.

Lemma block_pre s y : W block_net *m s + F block_net *m y + b block_net =
  col_mx (W Θ *m usubmx s + B *m dsubmx s + F Θ *m y + (b Θ - B *m v))
         (L *m usubmx s + S *m dsubmx s + (v + β - (L *m hinit Θ + S *m v))).
Proof.
rewrite -{1}[s]vsubmxK /= mul_block_col mul_col_mx !add_col_mx.
by rewrite mul0mx addr0.
Qed.

Lemma block_step s y : dsubmx s = v ->
  1%:M *m usubmx (W block_net *m s + F block_net *m y + b block_net) =
  W Θ *m (1%:M *m usubmx s) + F Θ *m y + b Θ.
Proof.
move=> sv; rewrite block_pre col_mxKu !mul1mx sv -!addrA; congr (_ + _).
by rewrite addrCA; congr (_ + _); rewrite addrCA subrr addr0.
Qed.

Lemma block_rest x k : (k <= 1)%N -> dsubmx (state φ block_net x k) = v.
Proof.
case: k => [|[|//]] _; first exact: col_mxKd.
rewrite stateS -map_dsubmx block_pre col_mxKd /= col_mxKu col_mxKd.
by rewrite addrC subrK rest_point.
Qed.

Definition block_chain : chain 1 n :=
  @Chain 1 n block_net 1%:M dilation (erefl _)
    (fun z => etrans (mul1mx _) (congr1 (map_mx φ) (esym (mul1mx z))))
    (etrans (mul1mx _) (col_mxKu _ _)) block_step block_rest.

(** ** One block more
    The old tail is handed on to a new one, which feeds back in its place. The columns of the
    recurrent matrix are only moved, so it stays orthogonal. *)
Section Lengthen.
Variables (K d : nat) (c : chain K d).

Definition longer_net : RNN R (d + r + r) m p := {|
  W := block_mx (row_mx (lsubmx (W (net c))) 0) (rsubmx (W (net c))) (row_mx 0 1%:M) 0;
  F := col_mx (F (net c)) 0;
  b := col_mx (b (net c)) β;
  C := row_mx (C Θ *m row_mx (P c) 0) 0;
  hinit := col_mx (hinit (net c)) v |}.

Lemma longer_orthogonal : orthogonal (W longer_net).
Proof.
have := chain_orthogonal c; rewrite /orthogonal /= -{1 2}[W (net c)]hsubmxK.
rewrite tr_row_mx mul_col_row scalar_mx_block => /eq_block_mx[ll lr rl rr].
rewrite tr_block_mx !tr_row_mx !trmx0 trmx1 mulmx_block !mul_col_row !mul_col_mx !mul_mx_row.
rewrite !mulmx0 !mul0mx !mulmx1 !addr0 ll lr rl rr add_block_mx !(addr0, add0r).
by rewrite col_mx0 row_mx0 !addr0 -!scalar_mx_block.
Qed.

Lemma longer_pre s y : W longer_net *m s + F longer_net *m y + b longer_net =
  col_mx (W (net c) *m col_mx (usubmx (usubmx s)) (dsubmx s) + F (net c) *m y + b (net c))
         (dsubmx (usubmx s) + β).
Proof.
rewrite -{1}[s]vsubmxK -{1}[usubmx s]vsubmxK /= mul_block_col mul_col_mx !add_col_mx.
rewrite !mul_row_col !mul0mx !mul1mx !addr0 add0r.
by rewrite -{3}[W (net c)]hsubmxK mul_row_col.
Qed.

Lemma longer_readE (z : 'cV[R]_(d + r)) : row_mx (P c) 0 *m z = P c *m usubmx z.
Proof. by rewrite -{1}[z]vsubmxK mul_row_col mul0mx addr0. Qed.

Lemma longer_read (z : 'cV[R]_(d + r)) :
  row_mx (P c) 0 *m map_mx φ z = map_mx φ (row_mx (P c) 0 *m z).
Proof. by rewrite !longer_readE -map_usubmx chain_read. Qed.

Lemma longer_start : row_mx (P c) 0 *m usubmx (hinit longer_net) = hinit Θ.
Proof. by rewrite longer_readE col_mxKu chain_start. Qed.

Lemma longer_step s y : dsubmx s = v ->
  row_mx (P c) 0 *m usubmx (W longer_net *m s + F longer_net *m y + b longer_net) =
  W Θ *m (row_mx (P c) 0 *m usubmx s) + F Θ *m y + b Θ.
Proof.
move=> sv; rewrite longer_pre col_mxKu !longer_readE sv.
by rewrite chain_step ?col_mxKd // col_mxKu.
Qed.

(** While both tails rest the longer chain runs the shorter one, so that its tail, which repeats
    the old tail a step later, rests one step longer. *)
Lemma longer_follows x k : (k <= K.+1)%N ->
  usubmx (state φ longer_net x k) = state φ (net c) x k /\ dsubmx (state φ longer_net x k) = v.
Proof.
elim: k => [|k IH] leK; first by rewrite /= col_mxKu col_mxKd.
have [up down] := IH (ltnW leK); have rest := chain_rest c x leK.
rewrite !stateS longer_pre map_col_mx col_mxKu col_mxKd up down rest rest_point.
by rewrite -{1}rest vsubmxK.
Qed.

Definition longer_chain : chain K.+1 (d + r) :=
  @Chain K.+1 (d + r) longer_net (row_mx (P c) 0) longer_orthogonal (erefl _)
    longer_read longer_start longer_step (fun x k leK => (longer_follows x leK).2).
End Lengthen.

(** ** K + 1 blocks are exact for K + 2 steps. *)
Lemma chain_exists K :
  exists2 d, (d + r = n + r * K.+1)%N & exists c : chain K.+1 d, True.
Proof.
elim: K => [|K [d dE [c _]]]; first by exists n; [rewrite muln1 | exists block_chain].
by exists (d + r)%N; [rewrite dE -addnA -mulnSr | exists (longer_chain c)].
Qed.

(** For T = 1 the teacher's own n states do: any orthogonal matrix, and W h₋₁ in the bias. *)
Definition single_net : RNN R n m p :=
  Rnn 1%:M (F Θ) (b Θ + (W Θ - 1%:M) *m hinit Θ) (C Θ) (hinit Θ).

Lemma single_exact x : output φ single_net x 0 = output φ Θ x 0.
Proof.
rewrite /output !stateS /= mulmxBl mul1mx; congr (_ *m map_mx φ _).
by rewrite addrAC 2![hinit Θ + _]addrCA subrr addr0 [b Θ + _]addrC addrAC.
Qed.

(** The number of states is a variable here, so that it can be given in any form. *)
Lemma chain_network T N : (N = n + r * T.-1)%N ->
  exists Θ' : RNN R N m p, orthogonal (W Θ') /\ equal_over φ T (fun _ _ => True) Θ Θ'.
Proof.
case: T => [|[|K]] NE.
- rewrite /= muln0 addn0 in NE; subst N; exists single_net; split=> //=.
  by rewrite /orthogonal trmx1 mulmx1.
- rewrite /= muln0 addn0 in NE; subst N; exists single_net; split=> /=.
    by rewrite /orthogonal trmx1 mulmx1.
  by move=> x _ [|//] _; rewrite single_exact.
have [d dE [c _]] := chain_exists K; rewrite /= -dE in NE; subst N.
exists (net c); split; first exact: chain_orthogonal.
by move=> x _ k ltK; rewrite chain_exact.
Qed.

End DelayChain.
