(** * Ours 1b: 2n - 1 states suffice when the contraction W is not diagonal
    With W_ij <> 0, i <> j, scale unit i alone by √(1 + u). The form |Dv|² - |DWv|² is
    |Kv|² + u (v_i² - (Wv)_i²), where I - WᵀW = KᵀK, K invertible; in z = Kv it is
    |z|² + u (a·z)² - u (b·z)². One u > 0 makes it non-negative and zero somewhere: DWD⁻¹ is then
    non-expansive and of defect below n. *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements StatementsOurs RingTactic Norm Dilation Theorem1 Scaling.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Form.
Variables (R : rcfType) (n : nat).
Add Ring R_ring : (ring_of R).

Lemma cauchy_schwarz_sqr m (u v : 'cV[R]_m) : dot u v ^+ 2 <= dot u u * dot v v.
Proof.
rewrite -!norm_sqr -exprMn -real_normK ?num_real // ler_pexpn2r ?nnegrE ?mulr_ge0 ?norm_ge0 //.
rewrite ler_norml cauchy_schwarz andbT ler_oppl -dotNl.
by apply: le_trans (cauchy_schwarz _ _) _; rewrite [norm (- u)]norm_dot dotNl dotNr opprK -norm_dot.
Qed.

(** The positive root of γ u² + (β - α) u - 1. *)
Lemma positive_root (α β γ : R) : 0 < γ ->
  exists2 u, 0 < u & u * β + u ^+ 2 * γ = 1 + u * α.
Proof.
move=> γ0; pose e := β - α; have -> : β = e + α by rewrite subrK.
pose g := γ + γ; have g0 : 0 < g by rewrite addr_gt0.
pose Δ := e ^+ 2 + (g + g); have Δe : e ^+ 2 < Δ by rewrite ltr_addl addr_gt0.
have Δ0 : 0 < Δ by apply: le_lt_trans Δe; rewrite sqr_ge0.
pose s := Num.sqrt Δ; have ss : s * s = e * e + (g + g) by rewrite -!expr2 sqr_sqrtr ?ltW.
have e_lt : e < s by apply: le_lt_trans (ler_norm e) _; rewrite -sqrtr_sqr ltr_sqrt.
exists ((s - e) / g); first by rewrite divr_gt0 ?subr_gt0.
have gV : g^-1 * g = 1 by rewrite mulVf ?gt_eqF.
apply: (mulIf (lt0r_neq0 (mulr_gt0 g0 g0))); apply/eqP; rewrite -subr_eq0; apply/eqP.
have -> : ((s - e) / g * (e + α) + ((s - e) / g) ^+ 2 * γ) * (g * g)
          - (1 + (s - e) / g * α) * (g * g)
          = (s - e) * e * g * (g^-1 * g)
            + (s - e) * (s - e) * γ * ((g^-1 * g) * (g^-1 * g)) - g * g.
  by ring_ops R.
rewrite gV !mulr1 /g; have -> : (s - e) * e * (γ + γ) + (s - e) * (s - e) * γ - (γ + γ) * (γ + γ)
          = γ * (s * s - (e * e + (γ + γ + (γ + γ)))) by ring_ops R.
by rewrite ss subrr mulr0.
Qed.

(** The form of rank two, with the zero p = (I + u aaᵀ)⁻¹ b: Cauchy and Schwarz for (p, √u a·p)
    and (z, √u a·z). *)
Lemma rank_two (a c : 'cV[R]_n) : 0 < dot a a * dot c c - dot a c ^+ 2 ->
  exists2 u, 0 < u &
  (forall z, u * dot c z ^+ 2 <= dot z z + u * dot a z ^+ 2) /\
  exists2 q, q != 0 & u * dot c q ^+ 2 = dot q q + u * dot a q ^+ 2.
Proof.
move=> γ0; have [u u0 uE] := positive_root (dot a a) (dot c c) γ0; exists u => //.
set α := dot a a in uE γ0 *; set β := dot c c in uE γ0 *; set κ := dot a c in uE γ0 *.
have w0 : 0 < 1 + u * α by rewrite ltr_paddr // mulr_ge0 ?dot_ge0 // ltW.
set w := 1 + u * α in uE w0.
have wV : w^-1 * w = 1 by rewrite mulVf ?gt_eqF.
pose t := u * κ / w; pose p := c - t *: a.
have ap : dot a p = κ / w.
  rewrite dotDr dotNr dotZr -/κ -/α /t; apply: (mulIf (lt0r_neq0 w0)).
  have -> : (κ - u * κ / w * α) * w = κ * w - u * κ * α * (w^-1 * w) by ring_ops R.
  have -> : κ / w * w = κ * (w^-1 * w) by ring_ops R.
  by rewrite wV /w; ring_ops R.
have cz z : dot c z = dot p z + t * dot a z.
  by rewrite dotDl dotNl dotZl subrK.
have tE : t = u * dot a p by rewrite ap /t mulrA.
have pp : u * (dot p p + u * dot a p ^+ 2) = 1.
  have -> : dot p p + u * dot a p ^+ 2 = dot c p by rewrite cz tE; ring_ops R.
  rewrite dotDr dotNr dotZr (dotC c a) -/β -/κ /t; apply: (mulIf (lt0r_neq0 w0)).
  have -> : u * (β - u * κ / w * κ) * w = u * β * w - u * u * κ * κ * (w^-1 * w) by ring_ops R.
  rewrite wV mulr1 mul1r -[RHS]uE /w; ring_ops R.
pose r := Num.sqrt u; have rr : r * r = u by rewrite -expr2 sqr_sqrtr ?ltW.
pose ext z : 'cV[R]_(n + 1) := col_mx z (r * dot a z)%:M.
have ext_dot y z : dot (ext y) (ext z) = dot y z + u * dot a y * dot a z.
  rewrite dot_col_mx [X in _ + X]big_ord1 !mxE !mulr1n -rr; ring_ops R.
split=> [z|]; last first.
  exists p; last by rewrite cz tE -[RHS]mul1r -pp; ring_ops R.
  by apply/eqP => p0; move: pp; rewrite p0 !dot0r expr0n /= !mulr0 addr0 mulr0 => /eqP;
    rewrite eq_sym oner_eq0.
have := cauchy_schwarz_sqr (ext p) (ext z); rewrite !ext_dot.
have -> : dot p z + u * dot a p * dot a z = dot c z by rewrite cz tE.
by rewrite -!mulrA -!expr2 -(ler_pmul2l u0) [X in _ <= X]mulrA pp mul1r.
Qed.
End Form.

Section OneLess.
Variables (R : rcfType) (n m p : nat) (Θ : RNN R n m p).
Add Ring R_ring2 : (ring_of R).

(** A non-expansive matrix that keeps the length of some vector has a defect below n. *)
Lemma defect_lt (V : 'M[R]_n) (v : 'cV[R]_n) : nonexpansive V -> v != 0 ->
  dot (V *m v) (V *m v) = dot v v -> (defect V < n)%N.
Proof.
move=> nexp v0 keep; have [K [B [S [KK oU]]]] := dilation nexp.
have Kv : K *m v = 0.
  apply: dot_eq0; rewrite dot_mul mulmxA KK dotC dot_defect keep subrr.
  by [].
rewrite ltn_neqAle rank_leq_row andbT; apply: contraNN v0 => full.
have : 1%:M - (V^T *m V) \in unitmx by rewrite -row_free_unit.
by move=> unit; rewrite -[v](mulKmx unit) -KK -mulmxA Kv !mulmx0.
Qed.

Variables (X : R) (i j : 'I_n).
Hypotheses (contr : contractive (W Θ)) (ij : i != j) (Wij : W Θ i j != 0).

Lemma exact_scaling : exists d : 'rV[R]_n, [/\ forall k, 0 < d 0 k,
  nonexpansive (scaled d (W Θ)) & (defect (scaled d (W Θ)) < n)%N].
Proof.
have nexp := contractive_nonexpansive contr.
have [K0 [B [S [KK0 _]]]] := dilation nexp.
(* I - WᵀW is positive definite: its factor is invertible *)
have [K [uK KK]] : exists K : 'M[R]_n, K \in unitmx /\ K^T *m K = 1%:M - (W Θ)^T *m W Θ.
  have full : defect (W Θ) = n.
    apply/eqP; rewrite -[_ == _]/(row_free _) -kermx_eq0; apply/rowV0P => v /sub_kermxP v0.
    have [c /andP[c0 c1] Wc] := contr.
    have e : dot v^T v^T = dot (W Θ *m v^T) (W Θ *m v^T).
      apply/eqP; rewrite -subr_eq0 -dot_defect dotE trmxK mulmxA v0 mul0mx mxE.
      by [].
    apply: trmx_inj; rewrite trmx0; apply: norm_eq0; apply/eqP; apply: contraTT (Wc v^T) => nz.
    rewrite -ltNge [X in _ < X]norm_dot -e -norm_dot gtr_pmull //.
    by rewrite lt_neqAle eq_sym nz norm_ge0.
  have [K KK] : exists K : 'M[R]_n, K^T *m K = 1%:M - (W Θ)^T *m W Θ.
    have : exists K : 'M[R]_(defect (W Θ), n), K^T *m K = 1%:M - (W Θ)^T *m W Θ by exists K0.
    by rewrite full.
  exists K; split=> //; have : K^T *m K \in unitmx.
    by rewrite KK -row_free_unit /row_free -/(defect _) full.
  by rewrite unitmx_mul => /andP[].
pose a := (invmx K)^T *m delta_mx i 0 : 'cV[R]_n; pose c := (invmx K)^T *m (row i (W Θ))^T.
have aK y : dot a (K *m y) = y i 0.
  rewrite dot_mul mulmxA -trmx_mul mulVmx // trmx1 mul1mx dotC /dot (bigD1 i) //= big1 => [|k ki].
    by rewrite mxE !eqxx mulr1 addr0.
  by rewrite mxE (negPf ki) mulr0.
have cK y : dot c (K *m y) = (W Θ *m y) i 0.
  rewrite dot_mul mulmxA -trmx_mul mulVmx // trmx1 mul1mx dotE trmxK -row_mul.
  by rewrite [LHS]mxE.
have [|u u0 [form [q q0 qE]]] := @rank_two R n a c.
  have KVK y : K *m (invmx K *m y) = y by rewrite mulKVmx.
  pose ei : 'cV[R]_n := delta_mx i 0; pose ej : 'cV[R]_n := delta_mx j 0.
  have α0 : 0 < dot a a.
    rewrite lt_neqAle dot_ge0 andbT eq_sym; apply/eqP => /dot_eq0 a0.
    by have := aK ei; rewrite a0 dot0l mxE !eqxx => /eqP; rewrite eq_sym oner_eq0.
  pose x := dot a a *: c - dot a c *: a.
  have xx : dot x x = dot a a * (dot a a * dot c c - dot a c ^+ 2).
    rewrite /x dotDl !dotDr !dotNl !dotNr !dotZl !dotZr (dotC c a); ring_ops R.
  rewrite -(pmulr_rgt0 _ α0) -xx lt_neqAle dot_ge0 andbT eq_sym; apply/eqP => /dot_eq0 x0.
  have := dot0l (K *m ej); rewrite -x0 dotDl dotNl !dotZl aK cK.
  rewrite -colE [col _ _ _ _]mxE [ej _ _]mxE (negPf ij) mulr0 subr0 => /eqP.
  by rewrite mulf_eq0 (negPf Wij) orbF gt_eqF.
pose r := Num.sqrt (1 + u).
have r0 : 0 < r by rewrite sqrtr_gt0 addr_gt0.
have rr : r * r = 1 + u by rewrite -expr2 sqr_sqrtr // ltW ?addr_gt0.
pose d : 'rV[R]_n := \row_k (if k == i then r else 1).
have d0 k : 0 < d 0 k by rewrite mxE; case: ifP.
have Dd y : dot (diag_mx d *m y) (diag_mx d *m y) = dot y y + u * y i 0 ^+ 2.
  rewrite /dot (bigD1 i) //= [in RHS](bigD1 i) //= !mul_diag_mx !mxE eqxx.
  rewrite (_ : r * y i 0 * (r * y i 0) = r * r * (y i 0 * y i 0)); last by ring_ops R.
  rewrite rr (_ : (1 + u) * _ = y i 0 * y i 0 + u * y i 0 ^+ 2); last by ring_ops R.
  rewrite addrAC; congr (_ + _ + _).
  by apply: eq_bigr => k ki; rewrite !mxE (negPf ki) !mul1r.
have len y : dot (K *m y) (K *m y) = dot y y - dot (W Θ *m y) (W Θ *m y).
  by rewrite [LHS]dot_mul mulmxA KK dotC dot_defect.
have scaledD y : scaled d (W Θ) *m (diag_mx d *m y) = diag_mx d *m (W Θ *m y).
  by rewrite scaledE // -!mulmxA (mulmxA (diag_mx (inv_row d))) D'D // mul1mx.
have nexp' : nonexpansive (scaled d (W Θ)).
  move=> v; have -> : v = diag_mx d *m (diag_mx (inv_row d) *m v) by rewrite mulmxA DD' // mul1mx.
  set y := _ *m v; rewrite scaledD norm_le !Dd -ler_subr_addl addrAC -len -(aK y) -(cK y).
  exact: form.
have q0' : diag_mx d *m (invmx K *m q) != 0.
  apply: contraNN q0 => /eqP e; rewrite -[q](mulKVmx uK) -[invmx K *m q](mul1mx).
  by rewrite -(D'D d0) -mulmxA e !mulmx0.
exists d; split=> //; apply: (defect_lt nexp' q0').
set y := invmx K *m q; have Ky : K *m y = q by rewrite mulKVmx.
rewrite scaledD !Dd -(aK y) -(cK y) Ky qE addrA; congr (_ + _).
by have := len y; rewrite Ky => ->; rewrite addrC subrK.
Qed.
End OneLess.

Theorem ours1b_holds : ours1b.
Proof.
move=> R n m p Θ X contr [i [j [ij Wij]]].
have [d [d0 nexp lt]] := exact_scaling contr ij Wij.
exists (n + defect (scaled d (W Θ)))%N; last exact: unitary_of_scaling.
have n0 : (0 < n)%N by apply: leq_ltn_trans (ltn_ord i).
by rewrite mul2n -addnn -addnBA // leq_add2l -ltnS subn1 prednK.
Qed.
