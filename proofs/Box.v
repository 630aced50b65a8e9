(** * On a box: more than n states unless |det V| = 1, and exactly 3 for a contractive W, not diagonal, of two states *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements StatementsOurs RingTactic Norm Dilation Theorem1 Kink Theorem2.
From Proofs Require Import Scaling OneLess LowerBound LowerBoundDet.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Box.
Variables (R : rcfType) (n N : nat) (V : 'M[R]_n) (Θ : RNN R N n n) (X : R).
Hypothesis X0 : 0 < X.
Local Notation relu := (@Statements.relu R).
Local Notation U := (W Θ).
Hypothesis equal : equal_over relu 2 (in_box X) (Rnn V 1%:M 0 1%:M 0) Θ.

Lemma box_equal x0 x1 : in_box X 0 x0 -> in_box X 1 x1 -> map_mx relu x0 = C Θ *m s0 Θ x0 /\
  map_mx relu (V *m map_mx relu x0 + x1) = C Θ *m map_mx relu (F Θ *m x1 + g1 Θ x0).
Proof.
move=> b0 b1; pose x (k : nat) := if k is 0%N then x0 else x1.
have xT k : (k < 2)%N -> in_box X k (x k) by case: k.
have e0 := equal xT (erefl : (0 < 2)%N); have e1 := equal xT (erefl : (1 < 2)%N).
move: e0 e1; rewrite /output /= !mulmx0 !mul1mx !add0r !addr0 => -> ->.
have swap (u v : 'cV[R]_N) : u + v + b Θ = v + (u + b Θ) by rewrite addrAC addrC.
by rewrite !swap.
Qed.

Lemma box0 k : in_box X k (0 : 'cV[R]_n).
Proof. by move=> i; rewrite mxE normr0 ltW. Qed.

Lemma kinks_at_0 : exists2 j : 'I_n -> 'I_N, (forall i, axis_unit (F Θ) i (j i)) &
  forall i, g0 Θ (j i) 0 = 0.
Proof.
have /fin_all_exists[j jP] : forall i, exists j, axis_unit (F Θ) i j && (g0 Θ j 0 == 0).
  apply: (@kink R n N (F Θ) (g0 Θ) (C Θ) X X0) => x bx.
  by have [] := box_equal bx (@box0 1).
by exists j => i; have /andP[? /eqP] := jP i.
Qed.
End Box.

(** With n states the units of the kinks are all there are: U F = F V. *)
Section Same.
Variables (R : rcfType) (n : nat) (V : 'M[R]_n) (Θ : RNN R n n n) (X : R).
Hypothesis X0 : 0 < X.
Local Notation relu := (@Statements.relu R).
Hypothesis equal : equal_over relu 2 (in_box X) (Rnn V 1%:M 0 1%:M 0) Θ.

Lemma same_size_conjugate : F Θ \in unitmx /\ W Θ *m F Θ = F Θ *m V.
Proof.
have [j J g0j] := kinks_at_0 X0 equal; have injj := axis_inj J.
have onto k : exists i, k = j i.
  have /codomP[i ->] : k \in codom j by apply: (inj_card_onto injj); rewrite card_ord.
  by exists i.
have g00 : g0 Θ = 0 by apply/colP => k; have [i ->] := onto k; rewrite [RHS]mxE g0j.
pose α i := F Θ (j i) i.
have α0 i : α i != 0 by have /andP[] := J i.
have FE q (M : 'M[R]_(n, q)) i l : (F Θ *m M) (j i) l = α i * M i l by apply: axis_mul.
(* the units rise along their axes *)
have αpos i : 0 < α i.
  rewrite lt_neqAle eq_sym α0 leNgt; apply/negP => neg.
  pose x : 'cV[R]_n := X *: delta_mx i 0.
  have bx : in_box X 0 x.
    have X0' := ltW X0; move=> l; rewrite !mxE eqxx andbT normrM normr_nat ger0_norm //.
    by case: (l == i); rewrite ?mulr1 ?mulr0.
  have [e _] := box_equal equal bx (@box0 R n X X0 1).
  have [e' _] := box_equal equal (@box0 R n X X0 0) (@box0 R n X X0 1).
  have same : s0 Θ x = s0 Θ 0.
    apply/colP => k; have [l ->] := onto k; rewrite /s0 g00 !addr0 mulmx0 [LHS]mxE [RHS]mxE.
    rewrite FE !mxE eqxx andbT; case: eqVneq => [->|_]; last by rewrite !mulr0.
    by rewrite mulr1 !relu_neg // nmulr_rle0 // ltW.
  have := congr1 (fun v : 'cV[R]_n => v i 0) e; rewrite same -e' !mxE !eqxx mulr1.
  by rewrite relu_pos ?ltW // relu_neg // => /eqP; rewrite gt_eqF.
have uF : F Θ \in unitmx.
  rewrite -row_free_unit; apply/row_freeP.
  pose A : 'M[R]_n := \matrix_(i, k) ((k == j i)%:R / α i).
  exists A; apply: mulmx1C; apply/matrixP => i l.
  rewrite mxE (bigD1 (j i)) //= big1 => [|k ki]; last by rewrite mxE (negPf ki) mul0r mul0r.
  rewrite addr0 !mxE eqxx mul1r; case: eqVneq => [<-|il]; first by rewrite mulVf.
  have /andP[_ /forallP Fi] := J i; rewrite (eqP (implyP (Fi l) _)) ?mulr0 //.
  by rewrite eq_sym.
split=> //.
(* small positive inputs pass unchanged *)
pose X2 := X / 2%:R; have X20 : 0 < X2 by rewrite divr_gt0 // ltr0n.
have XX : X2 + X2 = X by rewrite -mulr2n -mulr_natr divfK // pnatr_eq0.
pose v := \sum_i \sum_l `|V i l|.
have v0 : 0 <= v by rewrite sumr_ge0 // => i _; rewrite sumr_ge0.
pose t := X2 / (v + 1); have v1 : 0 < v + 1 by rewrite ltr_paddl.
have t0 : 0 < t by rewrite divr_gt0.
have tX : t <= X2 by rewrite ler_pdivr_mulr // ler_pemulr ?(ltW X20) // ler_addr.
have past (x : 'cV[R]_n) : (forall i, 0 <= x i 0 <= t) ->
    W Θ *m (F Θ *m x) + b Θ = F Θ *m (V *m x).
  move=> xt; have x0 i : 0 <= x i 0 by have /andP[] := xt i.
  have rx : map_mx relu x = x by apply/colP => i; rewrite mxE relu_pos.
  have bx : in_box X 0 x.
    move=> i; rewrite ger0_norm //; have /andP[_ le] := xt i; rewrite (le_trans le) //.
    by rewrite (le_trans tX) // -XX ler_addl ltW.
  have sE : s0 Θ x = F Θ *m x.
    apply/colP => k; have [i ->] := onto k; rewrite /s0 g00 addr0 mxE relu_pos //.
    by rewrite FE mulr_ge0 // ltW.
  have Vx i : `|(V *m x) i 0| <= X2.
    rewrite mxE (le_trans (ler_norm_sum _ _ _)) //.
    apply: (@le_trans _ _ (t * v)); last first.
      by rewrite /t mulrAC ler_pdivr_mulr // ler_pmul2l // ler_addl.
    have rest : 0 <= \sum_(k | k != i) \sum_l `|V k l|.
      by rewrite sumr_ge0 // => k _; rewrite sumr_ge0.
    rewrite [t * v]mulrC /v [X in _ <= X * _](bigD1 i) //= mulrDl ler_paddr //; first by rewrite mulr_ge0 // ltW.
    rewrite mulr_suml ler_sum // => l _; rewrite normrM [`|x l 0|]ger0_norm //.
    by rewrite ler_wpmul2l //; have /andP[] := xt l.
  have kinks i : exists k, axis_unit (F Θ) i k && ((g1 Θ x - F Θ *m (V *m x)) k 0 == 0).
    apply: (@kink R n n (F Θ) _ (C Θ) X2 X20) => z bz.
    have bz1 : in_box X 1 (z - V *m x).
      by move=> l; rewrite mxE [(- _ : 'cV_n) l 0]mxE -XX (le_trans (ler_norm_sub _ _)) // ler_add.
    have [_] := box_equal equal bx bz1.
    by rewrite rx; set w := V *m x; rewrite [w + _]addrC subrK mulmxBr -addrA [- _ + _]addrC.
  apply/colP => k; have [i ->] := onto k; have [l /andP[lJ /eqP]] := kinks i.
  have [i' li] := onto l; have ii' : i' = i.
    apply/eqP; apply: contraT => ne; have /andP[lF _] := lJ.
    have /andP[_ /forallP Fi'] := J i'; rewrite li in lF.
    by rewrite (eqP (implyP (Fi' i) _)) ?eqxx // in lF; rewrite eq_sym.
  rewrite li ii' /g1 sE mxE [(- _ : 'cV_n) _ 0]mxE => /eqP.
  by rewrite subr_eq0 => /eqP.
have b0 : b Θ = 0.
  have := past 0; rewrite !mulmx0 add0r; apply=> i.
  by rewrite mxE lexx ltW.
have cols l : W Θ *m (F Θ *m delta_mx l 0) = F Θ *m (V *m delta_mx l (0 : 'I_1)).
  have := past (t *: delta_mx l 0); rewrite b0 addr0 -!scalemxAr => eq.
  apply: (scalerI (lt0r_neq0 t0)); apply: eq => i.
  have t0' := ltW t0; rewrite !mxE eqxx andbT.
  by case: (i == l); rewrite ?mulr1 ?mulr0 ?lexx ?t0'.
apply/matrixP => a l; have /colP/(_ a) := cols l.
by rewrite !mulmxA -!colE !mxE.
Qed.
End Same.

Theorem ours_box_holds : ours_box.
Proof.
move=> R n N V Θ X X0 detV oU equal; have [j J _] := kinks_at_0 X0 equal.
have nN : (n <= N)%N by have := leq_card j (axis_inj J); rewrite !card_ord.
rewrite ltn_neqAle nN andbT; apply/eqP => nE; subst N.
have [uF conj] := same_size_conjugate X0 equal.
have : \det (W Θ) = \det V.
  apply: (mulIf (_ : \det (F Θ) != 0)); first by rewrite -unitfE -unitmxE.
  by rewrite -det_mulmx conj det_mulmx mulrC.
have : `|\det (W Θ)| = 1.
  apply/eqP; rewrite -sqrp_eq1 ?normr_ge0 // real_normK ?num_real // expr2.
  by rewrite -{1}det_tr -det_mulmx oU det1.
by move=> + e; rewrite e => /eqP; rewrite (negPf detV).
Qed.

Section Two.
Variable R : rcfType.

(** A contraction has a determinant below 1: V⁻¹ lengthens by 1/c, so det(c² V⁻ᵀV⁻¹) >= 1. *)
Lemma contractive_det n (V : 'M[R]_n.+1) : contractive V -> `|\det V| < 1.
Proof.
move=> [c /andP[c0 c1] Vc]; have [uV|] := boolP (V \in unitmx); last first.
  by rewrite unitmxE unitfE negbK => /eqP ->; rewrite normr0 ltr01.
have dV : \det V != 0 by rewrite -unitfE -unitmxE.
pose Z := c *: invmx V.
have : 1 <= \det (Z^T *m Z).
  apply: det_ge1; split=> [|v]; first by rewrite linearB /= trmx1 trmx_mul trmxK.
  rewrite mulmxBl dotDr dotNr mul1mx -mulmxA [dot v (Z^T *m _)]dot_mul trmxK subr_ge0.
  have := Vc (invmx V *m v); rewrite mulmxA mulmxV // mul1mx; set w := invmx V *m v => le.
  have -> : dot (Z *m v) (Z *m v) = (c * norm w) ^+ 2.
    by rewrite /Z -scalemxAl dotZl dotZr mulrA -expr2 exprMn norm_sqr.
  by rewrite -norm_sqr ler_pexpn2r ?nnegrE ?mulr_ge0 ?norm_ge0.
rewrite det_mulmx det_tr -expr2 -(real_normK (num_real (\det Z))) expr_ge1 //.
rewrite /Z detZ det_inv normrM normrV ?unitfE // normrX (ger0_norm c0).
rewrite ler_pdivl_mulr ?normr_gt0 // mul1r => le; apply: le_lt_trans le _.
by rewrite exprn_ilt1.
Qed.
End Two.

Theorem ours_three_holds : ours_three.
Proof.
move=> R V X X0 contr offdiag.
have lower N (Θ : RNN R N 2 2) : orthogonal (W Θ) ->
    equal_over (@relu R) 2 (in_box X) (Rnn V 1%:M 0 1%:M 0) Θ -> (3 <= N)%N.
  by move=> oU eq; apply: (ours_box_holds X0 _ oU eq); rewrite lt_eqF // contractive_det.
split=> //; pose Θ0 : RNN R 2 2 2 := Rnn V 1%:M 0 1%:M 0.
have [N N3 [Θ [oU eq]]] := @ours1b_holds R 2%N 2%N 2%N Θ0 (X * 3%:R) contr offdiag.
have eqX T : equal_over (@relu R) T (in_box X) Θ0 Θ.
  move=> x xX; apply: eq => k kT; apply: norm_box => [|i].
    by rewrite mulr_ge0 ?ltW // ltr0n.
  by rewrite mulfK ?pnatr_eq0 //; apply: xX.
have N3' : N = 3%N by apply/eqP; rewrite eqn_leq N3 (lower _ _ oU (eqX 2%N)).
by subst N; exists Θ.
Qed.

(** ** What the refutations of mutants.txt share *)
Section Shared.
Variable R : rcfType.
Definition bare n (V : 'M[R]_n) : RNN R n n n := Rnn V 1%:M 0 1%:M 0.
Definition half_shift : 'M[R]_2 := 2%:R^-1 *: shift R 2.

Lemma half_shift_contractive : contractive half_shift.
Proof.
have h0 : 0 < 2%:R^-1 :> R by rewrite invr_gt0 ltr0n.
have h1 : 2%:R^-1 < 1 :> R by rewrite invf_lt1 ?ltr0n // ltr1n.
exists 2%:R^-1; first by rewrite ltW.
by apply: shift_contractive; rewrite h0.
Qed.
Lemma half_shift_off : exists i j, i != j /\ half_shift i j != 0.
Proof.
exists 0, 1; split=> //; rewrite !mxE /= mulr1 invr_eq0 pnatr_eq0.
by [].
Qed.
Lemma half_shift_needs N (Θ : RNN R N 2 2) : orthogonal (W Θ) ->
  (forall T, equal_over (@relu R) T (in_box 1) (bare half_shift) Θ) -> (2 < N)%N.
Proof.
move=> oU eq; apply: (ours_box_holds ltr01 _ oU (eq 2%N)).
by rewrite lt_eqF // contractive_det //; exact: half_shift_contractive.
Qed.
Lemma box_in_ball n N m p (Θ : RNN R N n p) (Θ' : RNN R m n p) :
  (forall T, equal_over (@relu R) T (bounded (1 * n.+1%:R)) Θ Θ') ->
  forall T, equal_over (@relu R) T (in_box 1) Θ Θ'.
Proof.
move=> eq T x xX; apply: eq => k kT; apply: norm_box => [|i].
  by rewrite mul1r ler0n.
by rewrite mulfK ?pnatr_eq0 //; apply: xX.
Qed.
End Shared.
