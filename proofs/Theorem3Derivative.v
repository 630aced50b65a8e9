(** * Derivatives of functions of one variable, by ε and δ
    What theorem 3 needs and no more: sums and multiples, the chain rule, and that two functions
    that agree near a point have the same derivative there. *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Derivative.
Variable R : realFieldType.
Implicit Types (f g φ : R -> R) (z d e : R).

Lemma derivative_ext f g z d : f =1 g -> derivative f z d -> derivative g z d.
Proof.
move=> fg df ε ε0; have [δ δ0 near] := df ε ε0; exists δ => // t tδ.
by rewrite -!fg; exact: near.
Qed.

(** A point, two radii: both neighbourhoods hold within the smaller one. *)
Lemma near_both (P Q : R -> Prop) :
  (exists2 δ, 0 < δ & forall t : R, `|t| < δ -> P t) ->
  (exists2 δ, 0 < δ & forall t : R, `|t| < δ -> Q t) ->
  exists2 δ, 0 < δ & forall t : R, `|t| < δ -> P t /\ Q t.
Proof.
move=> [δ1 δ10 nearP] [δ2 δ20 nearQ]; exists (Num.min δ1 δ2); first by rewrite lt_minr δ10.
by move=> t; rewrite lt_minr => /andP[t1 t2]; split; [apply: nearP | apply: nearQ].
Qed.

Lemma derivative_affine a z d : derivative (fun t => a + d * t) z d.
Proof.
move=> ε ε0; exists 1; rewrite ?ltr01 // => t _.
have -> : a + d * (z + t) - (a + d * z) - d * t = 0.
  by rewrite mulrDr addrA [_ + d * t - _]addrAC subrr add0r subrr.
by rewrite normr0 mulr_ge0 // ltW.
Qed.

Lemma derivative_cst a z : derivative (fun=> a) z 0.
Proof.
by apply: derivative_ext (derivative_affine a z 0) => t; rewrite mul0r addr0.
Qed.

Lemma derivativeD f g z d e : derivative f z d -> derivative g z e ->
  derivative (fun t => f t + g t) z (d + e).
Proof.
move=> df dg ε ε0; have ε20 : 0 < ε / 2%:R by rewrite divr_gt0 // ltr0n.
have [δ δ0 near] := near_both (df _ ε20) (dg _ ε20); exists δ => // t /near[ft gt].
have -> : f (z + t) + g (z + t) - (f z + g z) - (d + e) * t =
    (f (z + t) - f z - d * t) + (g (z + t) - g z - e * t).
  by rewrite mulrDl [RHS]addrACA [X in _ = X + _]addrACA -!opprD.
rewrite (le_trans (ler_norm_add _ _)) // (le_trans (ler_add ft gt)) //.
by rewrite -mulrDl -mulrDl -mulr2n -[ε *+ 2]mulr_natr mulfK // pnatr_eq0.
Qed.

Lemma derivativeZ f z d a : derivative f z d -> derivative (fun t => a * f t) z (a * d).
Proof.
move=> df ε ε0; have a1 : 0 < `|a| + 1 by rewrite ltr_paddl.
have [δ δ0 near] := df (ε / (`|a| + 1)) (divr_gt0 ε0 a1); exists δ => // t /near ft.
rewrite -mulrA -!mulrBr normrM (le_trans (ler_wpmul2l (normr_ge0 a) ft)) //.
rewrite mulrA ler_wpmul2r // mulrCA ger_pmulr // ler_pdivr_mulr // mul1r.
by rewrite ler_addl ler01.
Qed.

Lemma derivative_sum n (a : 'I_n -> R) (f : 'I_n -> R -> R) z (d : 'I_n -> R) :
  (forall i, derivative (f i) z (d i)) ->
  derivative (fun t => \sum_i a i * f i t) z (\sum_i a i * d i).
Proof.
move=> df; elim: (index_enum _) => [|i s IH].
  rewrite big_nil; apply: derivative_ext (derivative_cst 0 z) => t.
  by rewrite big_nil.
rewrite big_cons; apply: derivative_ext (derivativeD (derivativeZ (a i) (df i)) IH) => t.
by rewrite big_cons.
Qed.

(** A differentiable function is Lipschitz near the point. *)
Lemma derivative_bound g z d : derivative g z d ->
  exists2 δ, 0 < δ & forall t, `|t| < δ -> `|g (z + t) - g z| <= (`|d| + 1) * `|t|.
Proof.
move=> dg; have [δ δ0 near] := dg 1 ltr01; exists δ => // t /near; rewrite mul1r => gt.
rewrite -[g _ - g _](subrK (d * t)) (le_trans (ler_norm_add _ _)) //.
by rewrite mulrDl mul1r normrM addrC ler_add2l.
Qed.

Lemma derivative_comp φ g z d e : derivative g z d -> derivative φ (g z) e ->
  derivative (fun t => φ (g t)) z (e * d).
Proof.
move=> dg dφ ε ε0.
have ε20 : 0 < ε / 2%:R by rewrite divr_gt0 // ltr0n.
have d1 : 0 < `|d| + 1 by rewrite ltr_paddl.
have e1 : 0 < `|e| + 1 by rewrite ltr_paddl.
have [δφ δφ0 nearφ] := dφ (ε / 2%:R / (`|d| + 1)) (divr_gt0 ε20 d1).
have [δ δ0 near] := near_both (dg (ε / 2%:R / (`|e| + 1)) (divr_gt0 ε20 e1))
  (derivative_bound dg).
have near2 : exists2 η, 0 < η & forall t : R, `|t| < η -> (`|d| + 1) * `|t| < δφ.
  by exists (δφ / (`|d| + 1)) => [|t]; rewrite ?divr_gt0 // ltr_pdivl_mulr // mulrC.
have [η η0 nearη] := near_both (ex_intro2 _ _ δ δ0 near) near2.
exists η => // t /nearη[[gt gb] small].
have gh : g (z + t) = g z + (g (z + t) - g z) by rewrite addrCA subrr addr0.
move: (g (z + t) - g z) => h in gt gb gh; rewrite gh.
have -> : φ (g z + h) - φ (g z) - e * d * t =
    (φ (g z + h) - φ (g z) - e * h) + e * (h - d * t).
  by rewrite mulrBr mulrA addrA subrK.
rewrite (le_trans (ler_norm_add _ _)) // normrM.
have h1 : `|φ (g z + h) - φ (g z) - e * h| <= ε / 2%:R * `|t|.
  rewrite (le_trans (nearφ h (le_lt_trans gb small))) //.
  rewrite (le_trans (ler_wpmul2l (ltW (divr_gt0 ε20 d1)) gb)) //.
  by rewrite mulrA divfK // gt_eqF.
have h2 : `|e| * `|h - d * t| <= ε / 2%:R * `|t|.
  rewrite (le_trans (ler_wpmul2l (normr_ge0 e) gt)) // mulrA ler_wpmul2r //.
  by rewrite mulrCA ger_pmulr // ler_pdivr_mulr // mul1r ler_addl ler01.
rewrite (le_trans (ler_add h1 h2)) // -mulrDl -mulrDl -mulr2n -[ε *+ 2]mulr_natr.
by rewrite mulfK // pnatr_eq0.
Qed.

(** Functions that agree near z have the same derivative at z. *)
Lemma derivative_unique f g z d e :
  (exists2 δ, 0 < δ & forall t, `|t| < δ -> f (z + t) = g (z + t)) ->
  derivative f z d -> derivative g z e -> d = e.
Proof.
move=> agree df dg; apply/eqP; rewrite -subr_eq0; apply/negPn/negP => de.
have ε0 : 0 < `|d - e| / 3%:R by rewrite divr_gt0 ?normr_gt0 // ltr0n.
have [δ δ0 near] := near_both agree (near_both (df _ ε0) (dg _ ε0)).
have δ2 : 0 < δ / 2%:R by rewrite divr_gt0 // ltr0n.
have tδ : `|δ / 2%:R| < δ.
  by rewrite ger0_norm ?ltW // ltr_pdivr_mulr ?ltr0n // ltr_pmulr // ltr1n.
have fgz : f z = g z.
  have [] := near 0 _; first by rewrite normr0.
  by rewrite addr0.
have [fgt [ft gt]] := near _ tδ; rewrite fgt fgz in ft.
set t := δ / 2%:R in ft gt δ2; set w := g (z + t) - g z in ft gt.
have : `|d - e| * `|t| <= (`|d - e| / 3%:R + `|d - e| / 3%:R) * `|t|.
  rewrite mulrDl (le_trans _ (ler_add gt ft)) // -normrM.
  have -> : (d - e) * t = (w - e * t) - (w - d * t).
    by rewrite opprB [RHS]addrC addrA subrK mulrBl.
  exact: ler_norm_sub.
rewrite ler_pmul2r ?normr_gt0 ?gt_eqF // -mulr2n -mulr_natr mulrAC ler_pdivl_mulr ?ltr0n //.
by rewrite ler_pmul2l ?normr_gt0 // ler_nat.
Qed.

End Derivative.
