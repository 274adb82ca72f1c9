package client

import (
	"fmt"
	"runtime/debug"
)

// PanicError is the failure of an attempt that panicked. It is not retryable, because a panic is
// a bug that every further attempt would meet, unless a rule of the policy for the code "panic"
// says otherwise. It never counts against the target's health or opens a breaker.
type PanicError struct {
	// Value is the value passed to panic.
	Value any
	// Stack is the stack of the goroutine at the panic, as returned by [debug.Stack].
	Stack []byte
}

// newPanicError must be called by the deferred function that recovered.
func newPanicError(value any) *PanicError { return &PanicError{Value: value, Stack: debug.Stack()} }

// Error implements error. It omits the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Format adds the stack for the verb %+v.
func (e *PanicError) Format(f fmt.State, verb rune) {
	if verb == 'v' && f.Flag('+') {
		fmt.Fprintf(f, "%s\n%s", e.Error(), e.Stack)
		return
	}
	fmt.Fprintf(f, fmt.FormatString(f, verb), e.Error())
}

// Unwrap returns Value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
