(** * Theorem 2: an invertible recurrence needs 2n states to forget, with ReLU *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements RingTactic Norm Kink.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(** ** Two facts of linear algebra *)
Section Rank.
Variables (F : fieldType) (n N : nat) (j : 'I_n -> 'I_N).
Definition select : 'M[F]_(n, N) := \matrix_(i, k) (k == j i)%:R.

Lemma select_mul q (A : 'M[F]_(N, q)) i k : (select *m A) i k = A (j i) k.
Proof.
rewrite mxE (bigD1 (j i)) //= big1 => [|l /negPf li]; first by rewrite mxE eqxx mul1r addr0.
by rewrite mxE li mul0r.
Qed.
Lemma rank_zero_rows q (A : 'M[F]_(N, q)) : injective j -> (forall i, row (j i) A = 0) ->
  (\rank A + n <= N)%N.
Proof.
move=> injj A0; have : select *m A = 0.
  by apply/matrixP => i k; rewrite select_mul; have /rowP/(_ k) := A0 i; rewrite !mxE.
have rs : \rank select = n.
  apply/eqP; rewrite -[_ == _]/(row_free _); apply/row_freeP; exists select^T.
  by apply/matrixP => i k; rewrite select_mul !mxE (inj_eq injj).
by move/mulmx0_rank_max; rewrite rs addnC.
Qed.
End Rank.

Section Theorem2.
Variables (R : realFieldType) (n N : nat) (Θ : RNN R N n n) (X : R).
Hypotheses (X0 : 0 < X) (invU : W Θ \in unitmx).
Local Notation relu := (@Statements.relu R).
Local Notation U := (W Θ).
Definition box (x : 'cV[R]_n) : Prop := forall i, `|x i 0| <= X.
Hypothesis equal : equal_over relu 2 (fun _ => box) (memoryless R n) Θ.

Definition g0 := U *m hinit Θ + b Θ.
Definition s0 (x0 : 'cV[R]_n) := map_mx relu (F Θ *m x0 + g0).
Definition g1 (x0 : 'cV[R]_n) := U *m s0 x0 + b Θ.

(** The two equations that equal outputs give. *)
Lemma outputs_equal x0 x1 : box x0 -> box x1 ->
  map_mx relu x0 = C Θ *m s0 x0 /\ map_mx relu x1 = C Θ *m map_mx relu (F Θ *m x1 + g1 x0).
Proof.
move=> bx0 bx1; pose x (k : nat) := if k is 0%N then x0 else x1.
have xbox k : (k < 2)%N -> box (x k) by case: k.
have e0 := equal xbox (erefl : (0 < 2)%N); have e1 := equal xbox (erefl : (1 < 2)%N).
move: e0 e1; rewrite /output /= !mul0mx !mul1mx !add0r !addr0 => -> ->.
have swap (u v : 'cV[R]_N) : u + v + b Θ = v + (u + b Θ) by rewrite addrAC addrC.
by rewrite !swap.
Qed.

(** For a set [m] of active units, the state s⁽⁰⁾ is affine in x⁽⁰⁾ with matrix [active m *m F]. *)
Definition active (m : {set 'I_N}) : 'M[R]_N := diag_mx (\row_j (j \in m)%:R).

Lemma s0_active x0 : let m := [set j | 0 < (F Θ *m x0 + g0) j 0] in
  s0 x0 = active m *m F Θ *m x0 + active m *m g0.
Proof.
rewrite /= -mulmxA -mulmxDr; set a := F Θ *m x0 + g0; apply/matrixP => j k.
rewrite ord1 /active mul_diag_mx [LHS]mxE [RHS]mxE [X in _ = X * _]mxE inE.
by case: (ltP 0 (a j 0)) => aj; [rewrite relu_pos ?ltW ?mul1r | rewrite relu_neg ?mul0r].
Qed.

Definition past (m : {set 'I_N}) : 'M[R]_(N, n) := U *m (active m *m F Θ).
Definition rest (m : {set 'I_N}) : 'cV[R]_N := U *m (active m *m g0) + b Θ.

Lemma two_n : (2 * n <= N)%N.
Proof.
(* (i): a unit j(i) along each axis at k = 0 *)
have box0 : box 0 by move=> i; rewrite mxE normr0 ltW.
have /fin_all_exists[j jP] : forall i, exists j, axis_unit (F Θ) i j && (g0 j 0 == 0).
  apply: (@kink R n N (F Θ) g0 (C Θ) X X0) => x bx.
  by have [] := outputs_equal bx box0.
(* x⁽⁰⁾ in the orthant where the units j(i) are active, generic for every set of active units *)
pose α i := F Θ (j i) i.
have α0 i : α i != 0 by have /andP[/andP[]] := jP i.
pose c : 'cV[R]_n := \col_i (if 0 < α i then X / 2%:R else - (X / 2%:R)).
have X2 : 0 < X / 2%:R by rewrite divr_gt0 // ltr0n.
have XX : X / 2%:R + X / 2%:R = X by rewrite -mulr2n -mulr_natr divfK // pnatr_eq0.
have [x xc gen] := @generic_point R n _ (fun mj => row mj.2 (past mj.1))
  (fun mj => rest mj.1 mj.2 0) c _ X2.
have xα i : 0 < α i * x i 0 /\ `|x i 0| <= X.
  have := xc i; rewrite mxE ltr_distl; case: (ltP 0 (α i)) => [αi|]; last first.
    rewrite le_eqVlt (negPf (α0 i)) addNr -opprD XX => αi /andP[h1 h2].
    by rewrite nmulr_rgt0 // h2 ltr0_norm // ler_oppl ltW.
  by rewrite subrr XX => /andP[h1 h2]; rewrite pmulr_rgt0 // h1 gtr0_norm // ltW.
have bx : box x by move=> i; have [] := xα i.
(* (ii): at k = 1 a unit j'(i) along each axis whose kink does not depend on x⁽⁰⁾ *)
pose m := [set j | 0 < (F Θ *m x + g0) j 0].
have /fin_all_exists[j' jP'] : forall i, exists j, axis_unit (F Θ) i j && (g1 x j 0 == 0).
  apply: (@kink R n N (F Θ) (g1 x) (C Θ) X X0) => x1 bx1.
  by have [] := outputs_equal bx bx1.
have past0 i : row (j' i) (past m) = 0.
  have /andP[_ /eqP g1j] := jP' i; apply: (gen (m, j' i) _).1 => /=.
  rewrite -row_mul [X in X + _]mxE -g1j /g1 (s0_active x) -/m mulmxDr -addrA mulmxA.
  by rewrite [RHS]mxE.
have injj' : injective j'.
  move=> i k jk; have /andP[/andP[Fi _] _] := jP' i; have /andP[/andP[_ /forallP Fk] _] := jP' k.
  by apply/eqP; apply: contraNT Fi => /(implyP (Fk i)); rewrite -jk.
(* U maps the n columns of past, independent, into the N - n other coordinates *)
have rank_past : \rank (past m) = n.
  rewrite /past (eqmxMfull _ (_ : row_full U)) ?row_full_unit //.
  apply/eqP; rewrite eqn_leq rank_leq_col /=.
  have rα : \rank (diag_mx (\row_i α i)) = n.
    apply/eqP; rewrite -[_ == _]/(row_free _) row_free_unit unitmxE det_diag unitfE.
    by apply/prodf_neq0 => i _; rewrite mxE.
  suff αE : diag_mx (\row_i α i) = select R j *m (active m *m F Θ).
    by rewrite -[X in (X <= _)%N]rα αE mxrankM_maxr.
  apply/matrixP => i k; rewrite select_mul /active mul_diag_mx [RHS]mxE [X in X * _]mxE inE.
  have /andP[/andP[_ /forallP Fk] /eqP gj] := jP i.
  have Fx : (F Θ *m x) (j i) 0 = α i * x i 0.
    rewrite mxE (bigD1 i) //= big1 ?addr0 // => l li.
    by rewrite (eqP (implyP (Fk l) li)) mul0r.
  have -> : (F Θ *m x + g0) (j i) 0 = α i * x i 0 by rewrite mxE Fx gj addr0.
  rewrite (xα i).1 mul1r !mxE.
  by case: eqVneq => [->|ik]; rewrite ?mulr1n // mulr0n (eqP (implyP (Fk k) _)) // eq_sym.
by have := rank_zero_rows injj' past0; rewrite rank_past addnn mul2n.
Qed.
End Theorem2.

Theorem theorem2_holds : theorem2.
Proof. by move=> R n N Θ X X0 invU; apply: two_n. Qed.

(** A unitary recurrence is invertible: theorems 2 and 3 apply to every URNN. *)
Lemma orthogonal_invertible (R : realFieldType) n (U : 'M[R]_n) : orthogonal U -> U \in unitmx.
Proof. by move/mulmx1_unit => []. Qed.

(** The memoryless teacher is contractive. *)
Lemma memoryless_contractive (R : rcfType) n : contractive (W (memoryless R n)).
Proof.
exists 0 => [|v /=]; first by rewrite lexx ltr01.
by rewrite mul0mx norm0 mul0r.
Qed.

Theorem theorem2_poster_holds : theorem2_poster.
Proof.
move=> R n _; exists (memoryless R n); first exact: memoryless_contractive.
move=> X N Θ X0 oU equal; have X' : 0 < X / n.+1%:R by rewrite divr_gt0 // ltr0n.
apply: (theorem2_holds X' (orthogonal_invertible oU)) => x xX; apply: equal => k k2.
by apply: norm_box (ltW X0) (xX k k2).
Qed.

(** ** 2n is attained: the new block, -h switched off by the ReLU itself, needs no bias here *)
Theorem theorem2_attained_holds : theorem2_attained.
Proof.
move=> R n; rewrite mul2n -addnn.
pose U : 'M[R]_(n + n) := block_mx 0 1%:M (- 1%:M) 0.
pose Θ := Rnn U (col_mx 1%:M 0) 0 (row_mx 1%:M 0) 0; exists Θ; split.
  rewrite /orthogonal /= /U tr_block_mx mulmx_block !trmx0 linearN /= trmx1.
  by rewrite !mul0mx !mulmx0 !mulmx1 linearN /= trmx1 opprK !add0r !addr0 -scalar_mx_block.
move=> T x _ k _.
have off l : state (@relu R) Θ x l = col_mx (state (@relu R) (memoryless R n) x l) 0.
  elim: l => [|l IH] /=; first by rewrite col_mx0.
  rewrite IH /= /U mul_block_col mul_col_mx !mul0mx !mul1mx !add0r !addr0 add_col_mx add0r addr0.
  rewrite map_col_mx; congr col_mx.
  apply/matrixP => i j; rewrite ord1 [LHS]mxE [RHS]mxE mulNmx mul1mx relu_neg //.
  case: l {IH} => [|l] /=; first by rewrite !mxE oppr0.
  by rewrite mxE oppr_le0 [X in 0 <= X]mxE relu_ge0.
by rewrite /output off mul_row_col mul0mx addr0.
Qed.
