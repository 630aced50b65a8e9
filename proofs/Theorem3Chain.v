(** * The delay chain of any non-expansive teacher: n + r (T - 1) states, r = rank(I - WᵀW) *)
From mathcomp Require Import all_ssreflect all_algebra.
From Proofs Require Import Statements Dilation DelayChain.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Local Open Scope ring_scope.

Theorem theorem3_chain_holds : theorem3_chain.
Proof.
move=> R φ n m p Θ T nonexp.
have [K [B [S [_ orth]]]] := dilation nonexp.
exact: (chain_network φ orth).
Qed.
