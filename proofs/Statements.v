(** * What is proved: the only file a referee has to read
    [R] is any ordered ('real') field, real closed (with square roots) where a norm occurs; the
    real numbers are one. Each file of proofs ends in [Theorem ... : theorem1.] and so on. *)
From mathcomp Require Import all_ssreflect all_algebra.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* begin networks *)
Section Networks.
Variable R : realFieldType.
Definition relu (z : R) : R := Num.max 0 z.
Record RNN (n m p : nat) := Rnn
  { W : 'M[R]_n; F : 'M[R]_(n, m); b : 'cV[R]_n; C : 'M[R]_(p, n); hinit : 'cV[R]_n }.
(** The state of index 0 is the prose's h₋₁, that of index k + 1 its h⁽ᵏ⁾. *)
Fixpoint state (φ : R -> R) n m p (Θ : RNN n m p) (x : nat -> 'cV[R]_m) (k : nat) : 'cV[R]_n :=
  if k is k'.+1 then map_mx φ (W Θ *m state φ Θ x k' + F Θ *m x k' + b Θ) else hinit Θ.
Definition output φ n m p (Θ : RNN n m p) x (k : nat) : 'cV[R]_p := C Θ *m state φ Θ x k.+1.
(** Equal outputs at the steps k < T for all inputs with x⁽ᵏ⁾ in the set [A k]. *)
Definition equal_over φ (T : nat) m (A : nat -> 'cV[R]_m -> Prop) n1 n2 p
    (Θ1 : RNN n1 m p) (Θ2 : RNN n2 m p) : Prop :=
  forall x, (forall k, (k < T)%N -> A k (x k)) ->
  forall k, (k < T)%N -> output φ Θ1 x k = output φ Θ2 x k.
Definition orthogonal n (U : 'M[R]_n) : Prop := U^T *m U = 1%:M.
Definition memoryless n : RNN n n n := Rnn 0 1%:M 0 1%:M 0.
Definition derivative (φ : R -> R) (z d : R) : Prop := forall ε, 0 < ε ->
  exists2 δ, 0 < δ & forall t, `|t| < δ -> `|φ (z + t) - φ z - d * t| <= ε * `|t|.
End Networks.
Definition norm (R : rcfType) n (v : 'cV[R]_n) : R := Num.sqrt (\sum_i v i 0 ^+ 2).
(** ‖W‖ <= c says |W v| <= c |v| for all v, so ‖W‖ < 1 says that some c < 1 serves. *)
Definition contractive (R : rcfType) n (V : 'M[R]_n) : Prop :=
  exists2 c : R, 0 <= c < 1 & forall v, norm (V *m v) <= c * norm v.
Definition nonexpansive (R : rcfType) n (V : 'M[R]_n) : Prop :=
  forall v, norm (V *m v) <= norm v.
(** n + rank(I - WᵀW) states. *)
Definition defect (R : rcfType) n (V : 'M[R]_n) : nat := \rank (1%:M - V^T *m V).
Definition bounded (R : rcfType) m (X : R) (k : nat) (x : 'cV[R]_m) : Prop := norm x <= X.
(* end networks *)

(* begin theorem1 *)
(** The poster's sentence; n + rank(I - WᵀW) states in the sharper one below. *)
Definition theorem1_poster : Prop := forall (R : rcfType) n m p (Θ : RNN R n m p) (X : R),
  contractive (W Θ) -> exists2 N, (N <= 2 * n)%N & exists2 Θ' : RNN R N m p,
    orthogonal (W Θ') & forall T, equal_over (@relu R) T (bounded X) Θ Θ'.
Definition theorem1 : Prop := forall (R : rcfType) n m p (Θ : RNN R n m p) (X : R),
  contractive (W Θ) -> (n + defect (W Θ) <= 2 * n)%N /\
  exists Θ' : RNN R (n + defect (W Θ)) m p, orthogonal (W Θ') /\
    forall T, equal_over (@relu R) T (bounded X) Θ Θ'.
(** The state bound R behind the finite M, as in the prose; f is any bound on ‖F‖. *)
Definition theorem1_bound : Prop := forall (R : rcfType) n m p (Θ : RNN R n m p) (c f X : R) x,
  0 <= c < 1 -> (forall v, norm (W Θ *m v) <= c * norm v) ->
  (forall u, norm (F Θ *m u) <= f * norm u) -> 0 <= f -> (forall k, norm (x k) <= X) ->
  forall k, norm (state (@relu R) Θ x k)
            <= Num.max (norm (hinit Θ)) ((f * X + norm (b Θ)) / (1 - c)).
(* end theorem1 *)

(* begin theorem2 *)
(** The poster's sentence, whatever the bound on the inputs; below, two steps suffice. *)
Definition theorem2_poster : Prop := forall (R : rcfType) n, (0 < n)%N ->
  exists2 Θ : RNN R n n n, contractive (W Θ) & forall (X : R) N (Θ' : RNN R N n n), 0 < X ->
  orthogonal (W Θ') -> (forall T, equal_over (@relu R) T (bounded X) Θ Θ') -> (2 * n <= N)%N.
Definition theorem2 : Prop := forall (R : realFieldType) n N (Θ : RNN R N n n) (X : R),
  0 < X -> W Θ \in unitmx ->
  equal_over (@relu R) 2 (fun _ x => forall i, `|x i 0| <= X) (memoryless R n) Θ ->
  (2 * n <= N)%N.
(** 2n is attained, by an orthogonal student, and for all inputs at every step. *)
Definition theorem2_attained : Prop := forall (R : realFieldType) n,
  exists Θ : RNN R (2 * n) n n, orthogonal (W Θ) /\
    forall T, equal_over (@relu R) T (fun _ _ => True) (memoryless R n) Θ.
(* end theorem2 *)

(* begin theorem3 *)
(** An open set of input sequences contains a product of boxes around some c⁽⁰⁾, ..., c⁽ᵀ⁻¹⁾. The
    logistic function is an instance in StatementsLogistic.v, which needs the exponential. *)
Definition theorem3 : Prop := forall (R : realFieldType) (φ φ' : R -> R),
  (forall z, derivative φ z (φ' z)) -> (forall z, φ' z != 0) ->
  forall n N T (Θ : RNN R N n n) (c : nat -> 'cV[R]_n) (ε : R), 0 < ε -> W Θ \in unitmx ->
  equal_over φ T (fun k x => forall i, `|x i 0 - c k i 0| < ε) (memoryless R n) Θ ->
  (n * T <= N)%N.
(** nT is attained, by an orthogonal student, for all inputs and any φ whatever. *)
Definition theorem3_attained : Prop := forall (R : realFieldType) (φ : R -> R) n T,
  exists Θ : RNN R (n * T) n n, orthogonal (W Θ) /\
    equal_over φ T (fun _ _ => True) (memoryless R n) Θ.
(** Any non-expansive teacher: n + r (T - 1) states, for all inputs and T steps. *)
Definition theorem3_chain : Prop := forall (R : rcfType) (φ : R -> R) n m p (Θ : RNN R n m p) T,
  nonexpansive (W Θ) -> exists Θ' : RNN R (n + defect (W Θ) * T.-1) m p,
    orthogonal (W Θ') /\ equal_over φ T (fun _ _ => True) Θ Θ'.
(** Teachers with F = C = I and any recurrent matrix V: n + (n - rank V) T for T + 1 steps. *)
Definition theorem3_general : Prop := forall (R : realFieldType) (φ φ' : R -> R),
  (forall z, derivative φ z (φ' z)) -> (forall z, φ' z != 0) ->
  forall n N T (V : 'M[R]_n) (a h0 : 'cV[R]_n) (Θ : RNN R N n n) (c : nat -> 'cV[R]_n) (ε : R),
  0 < ε -> W Θ \in unitmx ->
  equal_over φ T.+1 (fun k x => forall i, `|x i 0 - c k i 0| < ε) (Rnn V 1%:M a 1%:M h0) Θ ->
  (n + (n - \rank V) * T <= N)%N.
(* end theorem3 *)
