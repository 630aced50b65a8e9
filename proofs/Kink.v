(** * Step (i) of theorem 2: the kinks of a ReLU teacher must be kinks of units of the student
    By second differences at a generic point; no derivative. *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements RingTactic Norm.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Kink.
Variable R : realFieldType.
Add Ring R_ring : (ring_of R).
Local Notation relu := (@Statements.relu R).

(** ** What holds for all t small enough *)
Definition near0 (P : R -> Prop) : Prop := exists2 τ, 0 < τ & forall t, `|t| <= τ -> P t.

Lemma near0_and P Q : near0 P -> near0 Q -> near0 (fun t => P t /\ Q t).
Proof.
move=> [a a0 Pa] [c c0 Qc]; exists (Num.min a c) => [|t]; first by rewrite lt_minr a0.
by rewrite le_minr => /andP[ta tc]; split; [apply: Pa | apply: Qc].
Qed.
Lemma near0_all (I : finType) (P : I -> R -> Prop) :
  (forall i, near0 (P i)) -> near0 (fun t => forall i, P i t).
Proof.
move=> nP; suff [τ τ0 h] : near0 (fun t => forall i, i \in enum I -> P i t).
  by exists τ => // t tτ i; apply: h => //; rewrite mem_enum.
elim: (enum I) => [|i s [τ τ0 IH]]; first by exists 1.
have [ρ ρ0 h] := near0_and (nP i) (ex_intro2 _ _ τ τ0 IH).
exists ρ => // t tρ k; rewrite inE => /orP[/eqP->|ks]; have [h1 h2] := h t tρ => //.
exact: h2.
Qed.
Lemma near0_lt (a d : R) : 0 < a -> near0 (fun t => `|t * d| < a).
Proof.
move=> a0; have d1 : 0 < `|d| + 1 by rewrite ltr_paddl.
exists (a / (`|d| + 1)) => [|t tτ]; first by rewrite divr_gt0.
rewrite normrM; apply: le_lt_trans (ler_wpmul2r (normr_ge0 _) tτ) _.
by rewrite mulrAC ltr_pdivr_mulr // ltr_pmul2l // ltr_addl.
Qed.

(** ** A point of an open box on no hyperplane of a finite family *)
Lemma generic_point n (I : finType) (a : I -> 'rV[R]_n) (e : I -> R) (c : 'cV[R]_n) (ε : R) :
  0 < ε -> exists2 y : 'cV[R]_n, (forall k, `|y k 0 - c k 0| < ε) &
    forall i, (a i *m y) 0 0 + e i = 0 -> a i = 0 /\ e i = 0.
Proof.
move=> ε0; pose f i (y : 'cV[R]_n) := (a i *m y) 0 0 + e i.
suff [y yc h] : exists2 y : 'cV[R]_n, (forall k, `|y k 0 - c k 0| < ε) &
    forall i, i \in enum I -> f i y = 0 -> a i = 0 /\ e i = 0.
  by exists y => // i; apply: h; rewrite mem_enum.
elim: (enum I) => [|i s [y yc IH]].
  by exists c => // k; rewrite subrr normr0.
have [fi0|fi0] := eqVneq (f i y) 0; last first.
  by exists y => // k; rewrite inE => /orP[/eqP-> /eqP|]; [rewrite (negPf fi0) | exact: IH].
have [ai0|/rV0Pn[m aim]] := eqVneq (a i) 0.
  exists y => // k; rewrite inE => /orP[/eqP-> _|]; last exact: IH.
  by move: fi0; rewrite /f ai0 mul0mx mxE add0r.
pose z t : 'cV[R]_n := y + t *: delta_mx m 0.
have fz j t : f j (z t) = f j y + t * a j 0 m.
  by rewrite /f mulmxDr -scalemxAr -colE mxE addrAC; congr (_ + _ + _); rewrite !mxE.
have [τ τ0 nz] : near0 (fun t => (forall k, `|z t k 0 - c k 0| < ε) /\
    forall j, f j y != 0 -> `|t * a j 0 m| < `|f j y|).
  apply: near0_and; apply: near0_all; [move=> k | move=> j].
    have [|τ τ0 h] := @near0_lt (ε - `|y k 0 - c k 0|) (k == m)%:R; first by rewrite subr_gt0.
    exists τ => // t /h; rewrite ltr_subr_addr !mxE eqxx andbT.
    by apply: le_lt_trans; rewrite addrAC addrC ler_norm_add.
  have [fj|fj] := eqVneq (f j y) 0; first by exists 1 => // t _; rewrite fj eqxx.
  by have [|τ τ0 h] := @near0_lt `|f j y| (a j 0 m); [rewrite normr_gt0 | exists τ => // t /h].
have [|zc zf] := nz τ; first by rewrite gtr0_norm.
exists (z τ) => // j; rewrite inE -/(f j (z τ)) fz => /orP[/eqP->|js] /eqP.
  by rewrite fi0 add0r mulf_eq0 (gt_eqF τ0) (negPf aim).
have [fj /eqP e0|fj] := eqVneq (f j y) 0; first exact: IH.
by rewrite addr_eq0 => /eqP fjE; have := zf j fj; rewrite fjE normrN ltxx.
Qed.

(** A unit's second difference vanishes off its kink. *)
Lemma relu_second_diff (a d : R) : `|d| < `|a| -> relu (a + d) + relu (a - d) = relu a *+ 2.
Proof.
move=> da; have [a0|a0|a0] := ltgtP a 0; last by move: da; rewrite a0 normr0 normr_lt0.
  move: da; rewrite (ltr0_norm a0) ltr_norml opprK => /andP[h1 h2].
  rewrite !relu_neg ?addr0 ?mul0rn // ?ltW //.
    by rewrite subr_lt0.
  by rewrite -ltr_subr_addl sub0r.
move: da; rewrite (gtr0_norm a0) ltr_norml => /andP[h1 h2].
rewrite !relu_pos ?ltW // ?subr_gt0 //; last by rewrite -ltr_subl_addl sub0r.
by rewrite addrACA subrr addr0 -mulr2n.
Qed.

(** Step (i): for each input i some unit j has F_j = α e_iᵀ, α <> 0, and g_j = 0. *)
Definition axis_unit n N (F : 'M[R]_(N, n)) i j : bool :=
  (F j i != 0) && [forall k, (k != i) ==> (F j k == 0)].

Lemma kink n N (F : 'M[R]_(N, n)) (g : 'cV[R]_N) (C : 'M[R]_(n, N)) (X : R) : 0 < X ->
  (forall x : 'cV[R]_n, (forall i, `|x i 0| <= X) ->
     map_mx relu x = C *m map_mx relu (F *m x + g)) ->
  forall i, exists j, axis_unit F i j && (g j 0 == 0).
Proof.
move=> X0 eqy i; have [j jP|no] := pickP (fun j => axis_unit F i j && (g j 0 == 0)).
  by exists j.
exfalso.
(* a point p of the hyperplane x_i = 0, off every kink that the plane does not lie in *)
pose A := \matrix_(j, k) (if k == i then 0 else F j k).
have [y yX y0] := @generic_point n _ (fun j => row j A) (fun j => g j 0) 0 X X0.
pose p : 'cV[R]_n := \col_k (if k == i then 0 else y k 0); pose a := F *m p + g.
have aE j : a j 0 = (row j A *m y) 0 0 + g j 0.
  rewrite mxE -row_mul [X in _ = X + _]mxE !mxE; congr (_ + _).
  by apply: eq_bigr => k _; rewrite !mxE; case: eqP => _; rewrite ?mulr0 ?mul0r.
(* a step δ that crosses no kink of the student *)
have [δ δ0 small] : near0 (fun t => (forall j, a j 0 != 0 -> `|t * F j i| < `|a j 0|) /\
    `|t| <= X).
  apply: near0_and; last by exists X.
  apply: near0_all => j; have [aj|aj] := eqVneq (a j 0) 0.
    by exists 1 => // t _; rewrite aj eqxx.
  by have [|τ τ0 h] := @near0_lt `|a j 0| (F j i); [rewrite normr_gt0 | exists τ => // t /h].
have [|aδ δX] := small δ; first by rewrite gtr0_norm.
pose q t := p + t *: delta_mx i 0.
have qE t j : (F *m q t + g) j 0 = a j 0 + t * F j i.
  by rewrite mulmxDr -scalemxAr -colE !mxE addrAC.
have qX t : `|t| <= X -> forall k, `|q t k 0| <= X.
  move=> tX k; rewrite !mxE eqxx andbT; case: eqVneq => _.
    by rewrite add0r mulr1.
  by rewrite mulr0 addr0; have := yX k; rewrite mxE subr0 => /ltW.
(* the student's second difference is 0, unit by unit *)
have unit0 j : relu (a j 0 + δ * F j i) + relu (a j 0 - δ * F j i) = relu (a j 0) *+ 2.
  have [aj0|/aδ] := eqVneq (a j 0) 0; last exact: relu_second_diff.
  move: (aj0); rewrite aE => /y0[Aj gj].
  suff -> : F j i = 0 by rewrite mulr0 subr0 addr0.
  apply/eqP; apply: contraFT (no j) => Fji; rewrite gj eqxx andbT /axis_unit Fji /=.
  apply/forallP => k; apply/implyP => ki; have /rowP/(_ k) := Aj.
  by rewrite !mxE (negPf ki) => ->.
have output t : `|t| <= X -> relu (q t i 0) = \sum_j C i j * relu (a j 0 + t * F j i).
  move=> tX; have := congr1 (fun v : 'cV[R]_n => v i 0) (eqy _ (qX t tX)).
  by rewrite !mxE => ->; apply: eq_bigr => j _; rewrite [map_mx _ _ _ _]mxE qE.
have qi t : q t i 0 = t by rewrite !mxE !eqxx add0r mulr1.
have : relu (q δ i 0) + relu (q (- δ) i 0) = relu (q 0 i 0) *+ 2.
rewrite (output δ) // (output (- δ)) ?normrN // (output 0) ?normr0 ?(ltW X0) //.
  rewrite -big_split -sumrMnl; apply: eq_bigr => j _ /=.
  by rewrite -mulrDr mulNr unit0 mul0r addr0 mulrnAr.
rewrite !qi relu_pos ?ltW // relu_neg ?oppr_le0 ?ltW // relu_pos // addr0 mul0rn.
by move/eqP; rewrite (gt_eqF δ0).
Qed.
End Kink.
