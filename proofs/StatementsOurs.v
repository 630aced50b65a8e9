(** * What is proved past the poster: this project's results, never the authors' claims *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* begin ours *)
(** DWD⁻¹ for D = diag(d). *)
Definition scaled (R : rcfType) n (d : 'rV[R]_n) (V : 'M[R]_n) : 'M[R]_n :=
  \matrix_(i, j) (d 0 i * V i j / d 0 j).
(** The shift J: ones above the diagonal. *)
Definition shift (R : rcfType) n : 'M[R]_n := \matrix_(i, j) (i.+1 == j :> nat)%:R.
(** Some orthogonal network of N states has the outputs of Θ for inputs of norm at most X. *)
Definition unitary_in (R : rcfType) n m p (Θ : RNN R n m p) (X : R) (N : nat) : Prop :=
  exists Θ' : RNN R N m p, orthogonal (W Θ') /\
    forall T, equal_over (@relu R) T (bounded X) Θ Θ'.
(* end ours *)

(* begin ours1a *)
(** Theorem 1 holds whenever some diagonal scaling makes W contractive. *)
Definition ours1a : Prop := forall (R : rcfType) n m p (Θ : RNN R n m p) (X : R) (d : 'rV[R]_n),
  (forall i, 0 < d 0 i) -> contractive (scaled d (W Θ)) ->
  unitary_in Θ X (n + defect (scaled d (W Θ))).
(* end ours1a *)

(* begin dilations *)
(** An orthogonal matrix that holds V has n + rank(I - VᵀV) rows at least: theorem 1's is minimal. *)
Definition ours_minimal : Prop := forall (R : rcfType) n k (V : 'M[R]_n) B (K : 'M[R]_(k, n)) S,
  orthogonal (block_mx V B K S) -> (defect V <= k)%N.
(** 1c: no bound on the inputs is needed if I - WᵀW = KᵀK for some K >= 0. *)
Definition ours1c : Prop := forall (R : rcfType) n m p k (Θ : RNN R n m p) (K : 'M[R]_(k, n)),
  (forall i j, 0 <= K i j) -> K^T *m K = 1%:M - (W Θ)^T *m W Θ ->
  (forall i, 0 <= (K *m hinit Θ) i 0) -> exists Θ' : RNN R (n + k) m p, orthogonal (W Θ') /\
    forall T, equal_over (@relu R) T (fun _ _ => True) Θ Θ'.
(* end dilations *)

(* begin ours1b *)
(** At most 2n - 1 states when W is contractive and not diagonal. *)
Definition ours1b : Prop := forall (R : rcfType) n m p (Θ : RNN R n m p) (X : R),
  contractive (W Θ) -> (exists i j, i != j /\ W Θ i j != 0) ->
  exists2 N, (N <= 2 * n - 1)%N & unitary_in Θ X N.
(* end ours1b *)

(* begin exactness *)
(** W = εJ takes n + 1 states, exactly ... *)
Definition ours_shift : Prop := forall (R : rcfType) n m p (Θ : RNN R n m p) (X ε : R),
  0 < ε < 1 -> W Θ = ε *: shift R n -> exists2 N, (N <= n + 1)%N & unitary_in Θ X N.
(** ... so with n + 1 states the memoryless teacher is approximated as well as one likes. *)
Definition ours_no_floor : Prop := forall (R : rcfType) n (X δ : R), 0 < δ ->
  exists2 N, (N <= n + 1)%N & exists2 Θ' : RNN R N n n, orthogonal (W Θ') &
  forall T x, (forall k, (k < T)%N -> bounded X k (x k)) -> forall k, (k < T)%N ->
  norm (output (@relu R) (memoryless R n) x k - output (@relu R) Θ' x k) <= δ.
(* end exactness *)

(* begin ours2a *)
(** A lower bound for any teacher with F = C = I and recurrent matrix V, on all inputs:
    N >= n + #{i : σᵢ(DVD⁻¹) < 1} for some D. Singular values do not occur: by Courant and Fischer,
    at most N - n of them are below 1 exactly when DVD⁻¹ shortens no vector of some subspace of
    dimension 2n - N (here, the row space of B). *)
Definition ours2a : Prop := forall (R : rcfType) n N (V : 'M[R]_n) (Θ : RNN R N n n),
  orthogonal (W Θ) ->
  equal_over (@relu R) 2 (fun _ _ => True) (Rnn V 1%:M 0 1%:M 0) Θ ->
  exists2 d : 'rV[R]_n, (forall i, 0 < d 0 i) & exists2 B : 'M[R]_n, (2 * n - N <= \rank B)%N &
  forall v : 'cV[R]_n, (v^T <= B)%MS -> norm v <= norm (scaled d V *m v).
(** In particular N >= 2n for a diagonal contraction. *)
Definition ours2a_diagonal : Prop := forall (R : rcfType) n N (a : 'rV[R]_n) (Θ : RNN R N n n),
  (forall i, `|a 0 i| < 1) -> orthogonal (W Θ) ->
  equal_over (@relu R) 2 (fun _ _ => True) (Rnn (diag_mx a) 1%:M 0 1%:M 0) Θ -> (2 * n <= N)%N.
(** And N > n whenever |det V| < 1. *)
Definition ours2a_det : Prop := forall (R : rcfType) n N (V : 'M[R]_n) (Θ : RNN R N n n),
  `|\det V| < 1 -> orthogonal (W Θ) ->
  equal_over (@relu R) 2 (fun _ _ => True) (Rnn V 1%:M 0 1%:M 0) Θ -> (n < N)%N.
(* end ours2a *)

(* begin box *)
(** On a box, however small, n states are not enough unless |det V| = 1 ... *)
Definition in_box (R : rcfType) n (X : R) (k : nat) (x : 'cV[R]_n) : Prop :=
  forall i, `|x i 0| <= X.
Definition ours_box : Prop := forall (R : rcfType) n N (V : 'M[R]_n) (Θ : RNN R N n n) (X : R),
  0 < X -> `|\det V| != 1 -> orthogonal (W Θ) ->
  equal_over (@relu R) 2 (in_box X) (Rnn V 1%:M 0 1%:M 0) Θ -> (n < N)%N.
(** ... and for two states, contractive and not diagonal, exactly 3 are. *)
Definition ours_three : Prop := forall (R : rcfType) (V : 'M[R]_2) (X : R), 0 < X ->
  contractive V -> (exists i j, i != j /\ V i j != 0) ->
  (exists2 Θ : RNN R 3 2 2, orthogonal (W Θ) &
     forall T, equal_over (@relu R) T (in_box X) (Rnn V 1%:M 0 1%:M 0) Θ) /\
  forall N (Θ : RNN R N 2 2), orthogonal (W Θ) ->
     equal_over (@relu R) 2 (in_box X) (Rnn V 1%:M 0 1%:M 0) Θ -> (3 <= N)%N.
(* end box *)
