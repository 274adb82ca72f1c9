// Command bench measures Rebound as its users run it: the real program in its own process, and a
// NATS server in another. It prints distributions and figures side by side and judges nothing;
// run it on an idle machine.
package main
