// Command bench measures Rebound as its users run it: the real program in a
// process of its own, a NATS server in another. It prints distributions and
// figures side by side and judges nothing; run it on a quiet machine.
package main
