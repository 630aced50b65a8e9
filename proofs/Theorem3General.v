(** * Theorem 3 for any teacher with F = C = I
    N >= n + (n - rank W)(T - 1), whatever the teacher's recurrent matrix W is: theorem 3 is W = 0.
    For a W of singular values 0 and 1 the delay chain has just as many states. *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements Theorem3Derivative Theorem3.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section General.
Variables (R : realFieldType) (φ φ' : R -> R).
Hypothesis dφ : forall z, derivative φ z (φ' z).
Hypothesis φ'0 : forall z, φ' z != 0.
Variables (n : nat) (V : 'M[R]_n) (a h0 : 'cV[R]_n) (c : nat -> 'cV[R]_n).
Let Θ1 : RNN R n n n := Rnn V 1%:M a 1%:M h0.
Local Notation D k := (D φ φ' Θ1 c k).

Lemma D_unit k : D k \in unitmx.
Proof.
by rewrite unitmxE det_diag unitfE; apply/prodf_neq0 => i _; rewrite mxE mxE; exact: φ'0.
Qed.

(** Let the teacher's states move by τ⁽ᵏ⁾, in the kernel of V before the last step: the input that
    does so is u⁽ᵏ⁾ = D_k⁻¹ τ⁽ᵏ⁾. *)
Definition drive (τ : nat -> 'cV[R]_n) k : 'cV[R]_n := invmx (D k) *m τ k.

Lemma drive_state T τ : (forall k, (k < T)%N -> V *m τ k = 0) ->
  forall k, (k <= T)%N -> dstate φ φ' Θ1 c (drive τ) k.+1 = τ k.
Proof.
move=> kerτ; elim=> [|k IH] leT.
  by rewrite [LHS]/= mulmx0 add0r mul1mx mulKVmx ?D_unit.
rewrite [LHS]/= -/(dstate φ φ' Θ1 c (drive τ) k.+1) IH ?(ltnW leT) // kerτ // add0r mul1mx.
by rewrite mulKVmx ?D_unit.
Qed.

(** Such movements, written by coordinates: M on a basis of the kernel, w at the last step. *)
Definition movement T (M : 'M[R]_(\rank (cokermx V), T)) (w : 'cV[R]_n) k : 'cV[R]_n :=
  if (k < T)%N then col_base (cokermx V) *m direction M k else if k == T then w else 0.

Lemma kernel_base : V *m col_base (cokermx V) = 0.
Proof.
apply: (row_free_inj (row_base_free (cokermx V))).
by rewrite /= mul0mx -mulmxA mulmx_base mulmx_coker.
Qed.

Lemma movement_linear T x M1 M2 w1 w2 k :
  movement (x *: M1 + M2) (x *: w1 + w2) k = x *: @movement T M1 w1 k + movement M2 w2 k.
Proof.
rewrite /movement; case: ifP => _; first by rewrite direction_linear mulmxDr -scalemxAr.
by case: ifP => _; rewrite // scaler0 addr0.
Qed.

Lemma movement_injective T M w : (forall k, (k <= T)%N -> @movement T M w k = 0) ->
  M = 0 /\ w = 0.
Proof.
move=> still; split; last by have := still T (leqnn T); rewrite /movement ltnn eqxx.
have [B BK] := row_fullP (col_base_full (cokermx V)).
apply/matrixP => i j; have := still j (ltnW (ltn_ord j)).
rewrite /movement ltn_ord => /(congr1 (mulmx B)); rewrite mulmxA BK mul1mx mulmx0.
by rewrite /direction valK => /colP/(_ i); rewrite !mxE.
Qed.

(** While the student repeats the teacher, it moves for each of these movements. *)
Lemma movement_seen N (Θ : RNN R N n n) T ε M w : 0 < ε -> W Θ \in unitmx ->
  equal_over φ T.+1 (fun k x => forall i, `|x i 0 - c k i 0| < ε) Θ1 Θ ->
  dstate φ φ' Θ c (drive (@movement T M w)) T.+1 = 0 -> M = 0 /\ w = 0.
Proof.
move=> ε0 invW equal still; apply: movement_injective => k leT.
have kerτ j : (j < T)%N -> V *m movement M w j = 0.
  by rewrite /movement => ->; rewrite mulmxA kernel_base mul0mx.
have teacher j : (j < T.+1)%N ->
    C Θ1 *m dstate φ φ' Θ1 c (drive (movement M w)) j.+1 = 0 -> drive (movement M w) j = 0.
  by move=> ltj; rewrite mul1mx (drive_state kerτ) // /drive => ->; rewrite mulmx0.
have := still_only_at_rest dφ ε0 invW φ'0 equal teacher (leqnn _) still (leT : (k < T.+1)%N).
by rewrite /drive => /(congr1 (mulmx (D k))); rewrite mulKVmx ?D_unit // mulmx0.
Qed.
End General.

Theorem theorem3_general_holds : theorem3_general.
Proof.
move=> R φ φ' dφ φ'0 n N T V a h0 Θ c ε ε0 invW equal.
rewrite -mxrank_coker; set q := \rank (cokermx V).
pose M (z : 'rV[R]_(n + q * T)) : 'M_(q, T) := vec_mx (rsubmx z).
pose w (z : 'rV[R]_(n + q * T)) : 'cV_n := (lsubmx z)^T.
pose f z := dstate φ φ' Θ c (drive φ φ' V a h0 c (movement (M z) (w z))) T.+1.
rewrite -[(n + _)%N]mul1n -[N]muln1; apply: (@injective_size _ _ _ _ _ f).
  move=> x z1 z2; apply: dstate_linear => k.
  rewrite /drive /M /w !linearP /= movement_linear.
  by rewrite mulmxDr -scalemxAr.
move=> z fz; have [Mz wz] := movement_seen dφ φ'0 ε0 invW equal fz.
rewrite -[z]hsubmxK -[rsubmx z]vec_mxK -/(M z) Mz linear0.
by rewrite -[lsubmx z]trmxK -/(w z) wz trmx0 row_mx0.
Qed.
