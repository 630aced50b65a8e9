(** * The tactic [ring] on a commutative ring of MathComp
    In a section: [Add Ring name : (ring_of R)], then [ring_ops R] proves identities in [R]. *)
From Coq Require Export Ring.
From mathcomp Require Import all_ssreflect all_algebra.
Import GRing.Theory.
Local Open Scope ring_scope.
Section Ops.
Variable R : comRingType.
Definition radd (a b : R) : R := a + b.
Definition rmul (a b : R) : R := a * b.
Definition rsub (a b : R) : R := a - b.
Definition ropp (a : R) : R := - a.
Definition r0 : R := 0.
Definition r1 : R := 1.
Lemma ring_of : @ring_theory R r0 r1 radd rmul rsub ropp eq.
Proof.
by split=> *; rewrite /radd /rmul /rsub /ropp ?add0r ?addrA ?mul1r ?mulrA ?mulrDl ?subrr //;
  [rewrite addrC|rewrite mulrC].
Qed.
End Ops.
Ltac ring_ops R :=
  rewrite ?expr2 ?mulr2n;
  repeat match goal with
  | |- context [@GRing.add ?Z ?a ?b] => change (@GRing.add Z a b) with (@radd R a b)
  | |- context [@GRing.mul ?Z ?a ?b] => change (@GRing.mul Z a b) with (@rmul R a b)
  | |- context [@GRing.opp ?Z ?a] => change (@GRing.opp Z a) with (@ropp R a)
  | |- context [@GRing.zero ?Z] => change (@GRing.zero Z) with (r0 R)
  | |- context [@GRing.one ?Z] => change (@GRing.one Z) with (r1 R)
  end;
  match goal with |- @eq _ ?x ?y => change (@eq (GRing.ComRing.sort R) x y) end; ring.
