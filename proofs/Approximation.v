(** * Any accuracy with n + rank(I - WᵀW) unitary states (ours 3a)
    The dilation of theorem 1 with the bias -M on the new units: they stay within ε of l, what they
    feed back, B l, goes into the bias, and the error E obeys L (c E + ε) <= E. *)
From mathcomp Require Import all_ssreflect all_algebra complex.
From Proofs Require Import Statements StatementsLinear RingTactic Norm Dilation.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Approximation.
Variables (R : rcfType) (φ : R -> R) (L l c a : R) (n m p r : nat) (Θ : RNN R n m p).
Add Ring R_ring : (ring_of R).
Hypothesis lip : forall y z, `|φ y - φ z| <= L * `|y - z|.
Hypothesis bnd : forall z, `|φ z| <= a.
Variables (B : 'M[R]_(n, r)) (K : 'M[R]_(r, n)) (S : 'M[R]_r).
Hypothesis oU : orthogonal (block_mx (W Θ) B K S).
Hypothesis Wc : forall v, norm (W Θ *m v) <= c * norm v.
Hypotheses (L0 : 0 <= L) (c0 : 0 <= c).

Let rest : 'cV[R]_r := const_mx l.
Definition resting (M : R) : RNN R (n + r) m p :=
  Rnn (block_mx (W Θ) B K S) (col_mx (F Θ) 0) (col_mx (b Θ - B *m rest) (const_mx (- M)))
      (row_mx (C Θ) 0) (col_mx (hinit Θ) rest).

Lemma lipschitz_norm q (u v : 'cV[R]_q) : norm (map_mx φ u - map_mx φ v) <= L * norm (u - v).
Proof.
rewrite norm_le_sqr ?mulr_ge0 ?norm_ge0 // exprMn norm_sqr mulr_sumr; apply: ler_sum => i _.
rewrite -!expr2 -exprMn -[X in X <= _]real_normK ?num_real // -[X in _ <= X]real_normK ?num_real //.
rewrite ler_pexpn2r ?nnegrE ?normr_ge0 // !mxE normrM (ger0_norm L0).
exact: lip.
Qed.

Lemma norm_upper (v : 'cV[R]_r) : norm (B *m v) <= norm v.
Proof.
have := dot_orthogonal (col_mx (0 : 'cV[R]_n) v) oU.
rewrite mul_block_col !mulmx0 !add0r !dot_col_mx dot0l add0r => e.
by rewrite norm_le -e ler_addl dot_ge0.
Qed.

Lemma norm_lower (s : 'cV[R]_(n + r)) : norm (K *m usubmx s + S *m dsubmx s) <= norm s.
Proof.
have := dot_orthogonal s oU; rewrite -{1 2}[s]vsubmxK mul_block_col dot_col_mx => e.
by rewrite norm_le -e ler_addr dot_ge0.
Qed.

Lemma states_bounded : exists Q, forall M x k, norm (state φ (resting M) x k) <= Q.
Proof.
pose q := Num.max (norm (hinit (resting 0))) (`|a| * (n + r).+1%:R); exists q => M x [|k].
  by rewrite /q le_maxr lexx.
rewrite /q le_maxr; apply/orP; right; apply: norm_box => [|i].
  by rewrite mulr_ge0 ?ler0n.
by rewrite mulfK ?pnatr_eq0 // [state _ _ _ _]/= mxE (le_trans (bnd _)) // ler_norm.
Qed.

Lemma resting_pre M s u : W (resting M) *m s + F (resting M) *m u + b (resting M) =
  col_mx (W Θ *m usubmx s + B *m dsubmx s + F Θ *m u + (b Θ - B *m rest))
         (K *m usubmx s + S *m dsubmx s - const_mx M).
Proof.
rewrite -{1}[s]vsubmxK /= mul_block_col mul_col_mx !add_col_mx mul0mx addr0.
by congr col_mx; congr (_ + _); apply/matrixP => i j; rewrite !mxE.
Qed.

(** The new units rest within ε of l. *)
Lemma resting_close (ε : R) : 0 < ε ->
  (exists z0, forall z, z <= z0 -> `|φ z - l| <= ε / r.+1%:R) ->
  exists M, forall x k, norm (dsubmx (state φ (resting M) x k) - rest) <= ε.
Proof.
move=> ε0 [z0 tail]; have [Q small] := states_bounded; exists (Q - z0) => x k.
apply: norm_box => [|i]; first exact: ltW.
have e0 : 0 <= ε / r.+1%:R by rewrite divr_ge0 ?ltW // ltr0n.
case: k => [|k]; first by rewrite [state _ _ _ _]/= col_mxKd subrr mxE normr0.
have {}small := small (Q - z0) x k.
have -> : state φ (resting (Q - z0)) x k.+1 = map_mx φ (W (resting (Q - z0)) *m
  state φ (resting (Q - z0)) x k + F (resting (Q - z0)) *m x k + b (resting (Q - z0))) by [].
move: (state _ _ _ k) small => s small; rewrite resting_pre map_col_mx col_mxKd.
rewrite mxE [(- rest) i 0]mxE [rest i 0]mxE [map_mx _ _ _ _]mxE; apply: tail.
rewrite mxE [(- const_mx _ : 'cV_r) i 0]mxE [const_mx _ _ _]mxE opprB addrA ler_subl_addr.
rewrite [z0 + Q]addrC ler_add2r (le_trans (ler_norm _)) // (le_trans (entry_norm _ _)) //.
exact: le_trans (norm_lower s) small.
Qed.

Lemma rearrange (w w' y z u v : 'cV[R]_n) :
  w + u + v - (w' + y + u + (v - z)) = w - w' + (z - y).
Proof. by apply/matrixP => i j; rewrite !mxE; ring_ops R. Qed.

(** The error does not grow. *)
Lemma error_bound M E ε : L * (c * E + ε) <= E -> 0 <= E ->
  (forall x k, norm (dsubmx (state φ (resting M) x k) - rest) <= ε) ->
  forall x k, norm (state φ Θ x k - usubmx (state φ (resting M) x k)) <= E.
Proof.
move=> LE E0 close x; elim=> [|k IH]; first by rewrite [state _ (resting M) _ _]/= col_mxKu subrr norm0.
have -> : state φ (resting M) x k.+1 = map_mx φ (W (resting M) *m state φ (resting M) x k
  + F (resting M) *m x k + b (resting M)) by [].
have {}close := close x k; move: (state φ (resting M) x k) IH close => s IH close.
rewrite resting_pre map_col_mx col_mxKu [state φ Θ x k.+1]/= (le_trans (lipschitz_norm _ _)) //.
apply: le_trans LE; rewrite ler_wpmul2l //.
have -> : W Θ *m state φ Θ x k + F Θ *m x k + b Θ
    - (W Θ *m usubmx s + B *m dsubmx s + F Θ *m x k + (b Θ - B *m rest))
    = W Θ *m (state φ Θ x k - usubmx s) + B *m (rest - dsubmx s).
  by rewrite !mulmxBr; exact: rearrange.
rewrite (le_trans (norm_triangle _ _)) // ler_add //.
  by rewrite (le_trans (Wc _)) // ler_wpmul2l.
rewrite (le_trans (norm_upper _)) // (le_trans _ close) //.
by rewrite norm_le -opprB dotNl dotNr opprK.
Qed.
End Approximation.

Theorem ours3a_holds : ours3a.
Proof.
move=> R φ L l c a n m p Θ lip bnd tail /andP[c0 c1] Lc Wc δ δ0.
have L0 : 0 <= L.
  by have := lip 1 0; rewrite subr0 normr1 mulr1; apply: le_trans.
have nexp : nonexpansive (W Θ).
  by move=> v; rewrite (le_trans (Wc v)) // ler_pimull ?norm_ge0.
have [K [B [S [_ oU]]]] := dilation nexp; have [f f0 Cf] := norm_bound (C Θ).
have f1 : 0 < f + 1 by rewrite ltr_paddl ?ltr01.
have L1 : 0 < L + 1 by rewrite ltr_paddl ?ltr01.
pose E := δ / (f + 1); have E0 : 0 < E by rewrite divr_gt0.
pose ε := E * (1 - L * c) / (L + 1).
have ε0 : 0 < ε by rewrite divr_gt0 // mulr_gt0 // subr_gt0.
have LE : L * (c * E + ε) <= E.
  have EE : E - L * c * E = E * (1 - L * c) by rewrite mulrBr mulr1 [E * _]mulrC.
  rewrite mulrDr mulrA -ler_subr_addl EE /ε mulrCA ger_pmulr; last by rewrite mulr_gt0 // subr_gt0.
  by rewrite ler_pdivr_mulr // mul1r ler_addl ler01.
have tailε : 0 < ε / (defect (W Θ)).+1%:R by rewrite divr_gt0 // ltr0n.
have [M close] := resting_close (l := l) bnd oU ε0 (tail _ tailε).
exists (@resting R l n m p _ Θ B K S M) => [|x k]; first exact: oU.
have := error_bound lip oU Wc L0 c0 LE (ltW E0) close x k.+1; rewrite /output.
move: (state φ Θ x k.+1) (state φ (resting l Θ B K S M) x k.+1) => h s err.
have -> : C Θ *m h - C (resting l Θ B K S M) *m s = C Θ *m (h - usubmx s).
  by rewrite -{1}[s]vsubmxK /= mul_row_col mul0mx addr0 -mulmxBr.
rewrite (le_trans (Cf _)) // (le_trans (ler_wpmul2l f0 err)) // /E mulrCA ger_pmulr //.
by rewrite ler_pdivr_mulr // mul1r ler_addl ler01.
Qed.
