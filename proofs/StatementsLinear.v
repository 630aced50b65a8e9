(** * Linear recurrences, parallel evaluation, approximation: this project's results *)
From mathcomp Require Import all_ssreflect all_algebra complex.
From Proofs Require Import Statements.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* begin linear *)
(** The price of a window. Teacher h⁽ᵏ⁾ = V h⁽ᵏ⁻¹⁾ + x⁽ᵏ⁾, y = h; its eigenvalue λ, real or complex,
    is not of modulus 1 and has n - rank(V - λI) independent eigenvectors. An orthogonal linear
    student that is equal for T + 1 steps has n + (n - rank(V - λI)) T states at least. *)
Definition ours_linear : Prop := forall (R : rcfType) n N T (V : 'M[R]_n) (Θ : RNN R N n n)
  (λ : R[i]), `|λ| != 1 -> orthogonal (W Θ) ->
  equal_over id T.+1 (fun _ _ => True) (Rnn V 1%:M 0 1%:M 0) Θ ->
  (n + (n - \rank (map_mx (real_complex R) V - λ%:M)%R) * T <= N)%N.
(* end linear *)

(* begin parallel *)
(** Newton's method on the whole trajectory: a guess fixes which units are active, and the next guess
    solves the linear recurrence that is left. It starts from 0, and h₋₁ is known. *)
Definition active (R : rcfType) n m p (Θ : RNN R n m p) (g : 'cV[R]_n) (u : 'cV[R]_m) : 'M[R]_n :=
  diag_mx (\row_i (0 < (W Θ *m g + F Θ *m u + b Θ) i 0)%R%:R).
Fixpoint newton (R : rcfType) n m p (Θ : RNN R n m p) x (s k : nat) {struct s} : 'cV[R]_n :=
  if s is s'.+1 then
    (fix solve k := if k is k'.+1 then
       active Θ (newton Θ x s' k') (x k') *m (W Θ *m solve k' + F Θ *m x k' + b Θ)
     else hinit Θ) k
  else if k is _.+1 then 0 else hinit Θ.
(** The contractive network and a unitary equal of n + rank(I - WᵀW) states have the same guesses, so
    they take the same number of Newton steps, on every bounded input. *)
Definition ours_newton : Prop := forall (R : rcfType) n m p (Θ : RNN R n m p) (X : R),
  contractive (W Θ) -> exists Θ' : RNN R (n + defect (W Θ)) m p, [/\ orthogonal (W Θ'),
    forall T, equal_over (@relu R) T (bounded X) Θ Θ' &
    forall x, (forall k, bounded X k (x k)) ->
    forall s k, newton Θ' x s k = col_mx (newton Θ x s k) 0].
(* end parallel *)

(* begin approximation *)
(** 3a: no equivalence with sigmoids, yet any accuracy with the n + rank(I - WᵀW) states of theorem 1,
    for every input. The activation is bounded, has the Lipschitz constant L with L ‖W‖ < 1, and
    tends to some l at minus infinity: the logistic function, and tanh if ‖W‖ < 1. *)
Definition ours3a : Prop := forall (R : rcfType) (φ : R -> R) (L l c a : R) n m p
  (Θ : RNN R n m p), (forall y z, `|φ y - φ z| <= L * `|y - z|) -> (forall z, `|φ z| <= a) ->
  (forall ε, 0 < ε -> exists z0, forall z, z <= z0 -> `|φ z - l| <= ε) ->
  0 <= c <= 1 -> L * c < 1 -> (forall v, norm (W Θ *m v) <= c * norm v) ->
  forall δ, 0 < δ -> exists2 Θ' : RNN R (n + defect (W Θ)) m p, orthogonal (W Θ') &
  forall x k, norm (output φ Θ x k - output φ Θ' x k) <= δ.
(* end approximation *)
