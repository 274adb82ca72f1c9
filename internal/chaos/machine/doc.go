// Package machine is what a history uses of this machine: a [Process] that may be
// killed, halted and measured, [Ports], a [Wire] that may be cut, a small [Disk], and
// programs that are built, with a clock that can be set if need be.
package machine
