// Package machine provides what a history needs of this machine: a [Process] that can be killed,
// frozen and measured, [Ports], a [Wire] that can be cut, a small [Disk], and programs built on
// demand, optionally with a clock that can be set.
package machine
