(** * Ours 2a: a lower bound for any teacher W with F = C = I, inputs in all of ℝⁿ *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements StatementsOurs RingTactic Norm Kink Theorem2 Scaling.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Select.
Variables (R : realFieldType) (n N : nat) (j : 'I_n -> 'I_N).
Hypothesis injj : injective j.
Add Ring R_ring : (ring_of R).
Local Notation sel := (select R j).

Lemma select_tr : sel *m sel^T = 1%:M.
Proof. by apply/matrixP => i k; rewrite select_mul !mxE (inj_eq injj) eq_sym. Qed.
Lemma select_back z : dot (sel^T *m z) (sel^T *m z) = dot z z.
Proof. by rewrite [LHS]dot_mul trmxK mulmxA select_tr mul1mx. Qed.
Lemma select_shorter (y : 'cV[R]_N) : dot (sel *m y) (sel *m y) <= dot y y.
Proof.
have := dot_ge0 (y - sel^T *m (sel *m y)); rewrite dotDl !dotDr !dotNl !dotNr.
have e z : dot y (sel^T *m z) = dot (sel *m y) z by rewrite [LHS]dot_mul trmxK.
by rewrite (dotC (sel^T *m _) y) !e select_back opprK addNr addr0 subr_ge0.
Qed.
Lemma select_all (y : 'cV[R]_N) : (1%:M - sel^T *m sel) *m y = 0 ->
  dot (sel *m y) (sel *m y) = dot y y.
Proof.
move/eqP; rewrite mulmxBl mul1mx subr_eq0 -mulmxA => /eqP e.
by rewrite [in RHS]e select_back.
Qed.
End Select.

(** A unit along axis i reads entry i alone. *)
Lemma axis_mul (R : realFieldType) n N q (A : 'M[R]_(N, n)) i j (M : 'M[R]_(n, q)) k :
  axis_unit A i j -> (A *m M) j k = A j i * M i k.
Proof.
move=> /andP[_ /forallP Aj]; rewrite mxE (bigD1 i) //= big1 ?addr0 // => l li.
by rewrite (eqP (implyP (Aj l) li)) mul0r.
Qed.
Lemma axis_inj (R : realFieldType) n N (A : 'M[R]_(N, n)) j :
  (forall i, axis_unit A i (j i)) -> injective j.
Proof.
move=> Aj i k jk; have /andP[Ai _] := Aj i; have /andP[_ /forallP Ak] := Aj k.
by apply/eqP; apply: contraNT Ai => /(implyP (Ak i)); rewrite -jk.
Qed.

Section LowerBound.
Variables (R : rcfType) (n N : nat) (V : 'M[R]_n) (Θ : RNN R N n n).
Local Notation relu := (@Statements.relu R).
Local Notation U := (W Θ).
Hypothesis oU : orthogonal U.
Hypothesis equal : equal_over relu 2 (fun _ _ => True) (Rnn V 1%:M 0 1%:M 0) Θ.

Lemma teacher_equal x0 x1 : map_mx relu x0 = C Θ *m s0 Θ x0 /\
  map_mx relu (V *m map_mx relu x0 + x1) = C Θ *m map_mx relu (F Θ *m x1 + g1 Θ x0).
Proof.
pose x (k : nat) := if k is 0%N then x0 else x1.
have xT k : (k < 2)%N -> True by [].
have e0 := equal xT (erefl : (0 < 2)%N) (x := x); have e1 := equal xT (erefl : (1 < 2)%N) (x := x).
move: e0 e1; rewrite /output /= !mulmx0 !mul1mx !add0r !addr0 => -> ->.
have swap (u v : 'cV[R]_N) : u + v + b Θ = v + (u + b Θ) by rewrite addrAC addrC.
by rewrite !swap.
Qed.

(** The kinks at k = 0, and the steepest unit along each axis. *)
Lemma steepest i : exists2 j, axis_unit (F Θ) i j &
  forall k, axis_unit (F Θ) i k -> `|F Θ k i| <= `|F Θ j i|.
Proof.
have [j0 /andP[J0 _]] : exists j, axis_unit (F Θ) i j && (g0 Θ j 0 == 0).
  apply: (@kink R n N (F Θ) (g0 Θ) (C Θ) 1 ltr01) => x _.
  by have [] := teacher_equal x 0.
by case: (@Order.TotalTheory.arg_maxP _ _ _ j0 (axis_unit (F Θ) i) (fun j => `|F Θ j i|) J0) => j;
  exists j.
Qed.

Lemma lower_bound : exists2 d : 'rV[R]_n, (forall i, 0 < d 0 i) &
  exists2 B : 'M[R]_n, (2 * n - N <= \rank B)%N &
  forall v : 'cV[R]_n, (v^T <= B)%MS -> norm v <= norm (scaled d V *m v).
Proof.
have /fin_all_exists2[jm Jm dmax] := steepest.
pose α i := F Θ (jm i) i; pose d : 'rV[R]_n := \row_i `|α i|.
have α0 i : α i != 0 by have /andP[] := Jm i.
have d0 i : 0 < d 0 i by rewrite mxE normr_gt0.
(* x⁽⁰⁾ so far out along the signs of α that the units jm(i) are active, and generic *)
have [t t0 tP] : exists2 t : R, 0 <= t & forall i, - g0 Θ (jm i) 0 <= `|α i| * t.
  exists (\sum_i `|g0 Θ (jm i) 0| / `|α i|) => [|i].
    by apply: sumr_ge0 => i _; rewrite divr_ge0.
  rewrite mulr_sumr (bigD1 i) //= mulrCA divff ?normr_eq0 // mulr1.
  apply: le_trans (ler_norm _) _; rewrite normrN ler_addl; apply: sumr_ge0 => k _.
  by rewrite mulr_ge0 // divr_ge0.
pose c : 'cV[R]_n := \col_i (if 0 < α i then t + 1 else - (t + 1)).
pose E : 'M[R]_n := diag_mx (\row_i (0 < α i)%R%:R).
pose past m := U *m (active R m *m F Θ) - F Θ *m (V *m E).
pose rest m := U *m (active R m *m g0 Θ) + b Θ.
have [x xc gen] := @generic_point R n _ (fun mj => row mj.2 (past mj.1))
  (fun mj => rest mj.1 mj.2 0) c _ ltr01.
have xα i : t < Num.sg (α i) * x i 0.
  have := xc i; rewrite mxE ltr_distl; case: (ltrgtP 0 (α i)) => [αi|αi|/eqP]; last first.
  - by rewrite eq_sym (negPf (α0 i)).
  - by rewrite ltr0_sg // mulN1r ltr_oppr opprD subrK => /andP[].
  - by rewrite gtr0_sg // mul1r addrK => /andP[].
have hE : map_mx relu x = E *m x.
  apply/matrixP => i k; rewrite ord1 /E mul_diag_mx [LHS]mxE [RHS]mxE [X in X * _]mxE.
  have := xα i; case: (ltrgtP 0 (α i)) => [αi|αi|/eqP]; last first.
  - by rewrite eq_sym (negPf (α0 i)).
  - rewrite ltr0_sg // mulN1r ltr_oppr mul0r => xi.
    by rewrite relu_neg // ltW // (lt_le_trans xi) // oppr_le0.
  - by rewrite gtr0_sg // !mul1r => xi; rewrite relu_pos // (le_trans t0) // ltW.
pose m := [set k | 0 < (F Θ *m x + g0 Θ) k 0].
have jm_active i : jm i \in m.
  rewrite inE mxE (axis_mul _ _ (Jm i)) -/(α i).
  rewrite -[X in 0 < _ + X]opprK subr_gt0; apply: le_lt_trans (tP i) _.
  by rewrite {2}[α i]numEsg mulrAC [_ * t]mulrC ltr_pmul2r ?normr_gt0.
(* at k = 1 a unit j'(i) along each axis follows the teacher's kink *)
have /fin_all_exists[j' jP'] : forall i, exists j, axis_unit (F Θ) i j &&
    ((g1 Θ x - F Θ *m (V *m map_mx relu x)) j 0 == 0).
  apply: (@kink R n N (F Θ) _ (C Θ) 1 ltr01) => z _.
  have [_] := teacher_equal x (z - V *m map_mx relu x).
  by set w := V *m _; rewrite [w + _]addrC subrK mulmxBr -addrA [- _ + _]addrC.
have J' i : axis_unit (F Θ) i (j' i) by have /andP[] := jP' i.
pose past_m := U *m (active R m *m F Θ).
have e : past m *m x + rest m = g1 Θ x - F Θ *m (V *m map_mx relu x).
  rewrite /g1 (s0_active Θ x) -/m hE /past /rest mulmxBl mulmxDr !mulmxA.
  by rewrite addrAC addrA.
have row_past i : row (j' i) past_m = F Θ (j' i) i *: row i (V *m E).
  have /andP[_ /eqP g1j] := jP' i; have [|+ _] := gen (m, j' i); last first.
    rewrite /= linearB /= => /eqP; rewrite subr_eq0 => /eqP ->.
    by apply/rowP => k; rewrite mxE (axis_mul _ _ (J' i)) [RHS]mxE [row i _ _ _]mxE.
  have := congr1 (fun w : 'cV[R]_N => w (j' i) 0) e; rewrite g1j mxE => <- /=.
  by rewrite -row_mul [row _ _ _ _]mxE.
(* where the rows outside j' vanish, lengths compare *)
have injj := axis_inj Jm; have injj' := axis_inj J'.
pose Z := (1%:M - (select R j')^T *m select R j') *m past_m.
have compare y : Z *m y = 0 ->
    dot (diag_mx d *m y) (diag_mx d *m y)
    <= dot (diag_mx d *m (V *m (E *m y))) (diag_mx d *m (V *m (E *m y))).
  rewrite /Z -mulmxA => /(select_all injj') keep.
  apply: (@le_trans _ _ (dot (active R m *m F Θ *m y) (active R m *m F Θ *m y))).
    apply: le_trans (select_shorter injj _); apply: ler_sum => i _; rewrite -!expr2 select_mul.
    rewrite mul_diag_mx [X in X ^+ 2 <= _]mxE -mulmxA /active mul_diag_mx [X in _ <= X ^+ 2]mxE.
    rewrite (axis_mul _ _ (Jm i)) -/(α i) !mxE jm_active mul1r !exprMn.
    by rewrite real_normK ?num_real.
  rewrite -(dot_orthogonal _ oU) mulmxA -/past_m -keep; apply: ler_sum => i _; rewrite -!expr2.
  rewrite select_mul mul_diag_mx [X in _ <= X ^+ 2]mxE [d 0 i]mxE.
  have -> : (past_m *m y) (j' i) 0 = F Θ (j' i) i * (V *m (E *m y)) i 0.
    have := congr1 (fun w : 'rV[R]_n => (w *m y) 0 0) (row_past i).
    by rewrite -row_mul -scalemxAl -row_mul mxE -mulmxA => ->; rewrite mxE [row _ _ _ _]mxE.
  rewrite !exprMn ler_wpmul2r ?sqr_ge0 // -[F Θ (j' i) i ^+ 2]real_normK ?num_real //.
  by rewrite ler_pexpn2r ?nnegrE ?normr_ge0 // dmax.
(* the subspace: all v = DEy with Zy = 0 *)
pose M := kermx Z^T *m (E *m diag_mx d).
have trED : (E *m diag_mx d)^T = diag_mx d *m E by rewrite trmx_mul !tr_diag_mx.
have Zker (w : 'rV[R]_n) : (w <= kermx Z^T)%MS -> Z *m w^T = 0.
  by move=> /sub_kermxP wZ; apply: trmx_inj; rewrite trmx_mul trmxK wZ trmx0.
exists d => //; exists M => [|v /submxP[w vM]].
  have rM : \rank M = \rank (kermx Z^T).
    rewrite -[RHS](mxrank_mul_ker _ (E *m diag_mx d)).
    suff -> : (kermx Z^T :&: kermx (E *m diag_mx d))%MS = 0 by rewrite mxrank0 addn0.
    apply/eqP/rowV0P => w; rewrite sub_capmx => /andP[/Zker wZ /sub_kermxP wED].
    have Dw : dot (diag_mx d *m w^T) (diag_mx d *m w^T) <= 0.
      have DE0 : diag_mx d *m (E *m w^T) = 0.
        by apply: trmx_inj; rewrite mulmxA trmx_mul trmxK -trED trmxK wED trmx0.
      have E0 : E *m w^T = 0 by rewrite -[E *m _]mul1mx -(D'D d0) -mulmxA DE0 mulmx0.
      by apply: le_trans (compare _ wZ) _; rewrite E0 !mulmx0 dot0l.
    apply: trmx_inj; rewrite trmx0 -[w^T]mul1mx -(D'D d0) -mulmxA.
    by rewrite (@dot_eq0 _ _ (diag_mx d *m w^T)) ?mulmx0 //; apply/eqP; rewrite eq_le Dw dot_ge0.
  rewrite rM mxrank_ker mxrank_tr leq_subLR mul2n -addnn.
  have : (\rank Z + n <= N)%N.
    apply: (rank_zero_rows injj') => i; apply/rowP => k; rewrite [LHS]mxE -select_mul.
    by rewrite /Z mulmxA mulmxBr mulmx1 [X in _ - X]mulmxA select_tr // mul1mx subrr mul0mx !mxE.
  by move=> zn; rewrite (leq_trans _ (leq_add zn (leqnn _))) // addnAC subnKC ?rank_leq_col.
have yZ : Z *m (w *m kermx Z^T)^T = 0 by apply: Zker; apply: submxMl.
set y := (w *m kermx Z^T)^T in yZ.
have -> : v = diag_mx d *m (E *m y).
  by apply: trmx_inj; rewrite vM mulmxA trmx_mul trmxK -trED trmxK mulmxA.
rewrite scaledE // -!mulmxA (mulmxA (diag_mx (inv_row d))) D'D // mul1mx norm_le.
apply: le_trans (compare _ yZ); apply: ler_sum => i _; rewrite -!expr2.
rewrite /E !mul_diag_mx !mxE; case: (0 < α i); first by rewrite mul1r.
by rewrite mul0r mulr0 expr0n /= sqr_ge0.
Qed.
End LowerBound.

Theorem ours2a_holds : ours2a.
Proof. by move=> R n N V Θ oU equal; apply: (lower_bound oU equal). Qed.

Theorem ours2a_diagonal_holds : ours2a_diagonal.
Proof.
move=> R n N a Θ a1 oU equal; have [d d0 [B rB Bv]] := ours2a_holds oU equal.
suff B0 : B = 0 by move: rB; rewrite B0 mxrank0 leqn0 subn_eq0.
apply/row_matrixP => i; rewrite row0; apply: trmx_inj; rewrite trmx0.
have := Bv (row i B)^T; rewrite trmxK => /(_ (row_sub _ _)); set v := (row i B)^T.
have -> : scaled d (diag_mx a) = diag_mx a.
  apply/matrixP => k l; rewrite !mxE; case: eqVneq => [->|_]; last by rewrite mulr0 mul0r.
  by rewrite mulr1n mulrAC mulfV ?gt_eqF // mul1r.
have len k : v k 0 ^+ 2 - (diag_mx a *m v) k 0 ^+ 2 = (1 - a 0 k ^+ 2) * v k 0 ^+ 2.
  by rewrite mul_diag_mx mxE exprMn mulrBl mul1r.
have a2 k : 0 < 1 - a 0 k ^+ 2.
  by rewrite subr_gt0 -real_normK ?num_real // expr_lt1.
rewrite norm_le -subr_ge0 -oppr_le0 opprB -sumrB => le0; apply/matrixP => k l.
rewrite ord1 [RHS]mxE; apply/eqP; rewrite -sqrf_eq0 -(mulrI_eq0 _ (lregP (lt0r_neq0 (a2 k)))) -len.
have pos j : 0 <= v j 0 ^+ 2 - (diag_mx a *m v) j 0 ^+ 2 by rewrite len mulr_ge0 ?sqr_ge0 ?ltW.
rewrite eq_le pos andbT; apply: le_trans le0; rewrite (bigD1 k) //= -!expr2 ler_addl.
by apply: sumr_ge0 => j _; rewrite -!expr2.
Qed.
