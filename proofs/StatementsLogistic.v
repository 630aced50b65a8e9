(** * The logistic instance of theorem 3
    Kept apart because the exponential comes from mathcomp-analysis, which rests on the classical
    axioms; the rest of the statements need none. *)
From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import reals sequences exp.
From Proofs Require Import Statements.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* begin theorem3_logistic *)
Definition logistic (R : realType) (z : R) : R := (1 + expR (- z))^-1.
(** The poster's sentence: no unitary network of any size, whatever the bound on the inputs. *)
Definition theorem3_poster : Prop := forall R : realType,
  exists n m p, exists2 Θ : RNN R n m p, contractive (W Θ) &
  forall (X : R) N (Θ' : RNN R N m p), 0 < X -> orthogonal (W Θ') ->
  ~ forall T, equal_over (@logistic R) T (bounded X) Θ Θ'.
(** The sharper one: over T steps it takes nT states. *)
Definition theorem3_logistic : Prop :=
  forall (R : realType) n N T (Θ : RNN R N n n) (c : nat -> 'cV[R]_n) (ε : R),
  0 < ε -> W Θ \in unitmx ->
  equal_over (@logistic R) T (fun k x => forall i, `|x i 0 - c k i 0| < ε) (memoryless R n) Θ ->
  (n * T <= N)%N.
(* end theorem3_logistic *)
