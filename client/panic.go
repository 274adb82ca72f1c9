package client

import (
	"fmt"
	"runtime/debug"
)

// PanicError is the failure of an attempt that panicked. It is not retryable,
// because a panic is a bug that every other attempt would meet, unless a rule of
// the policy says otherwise of its code, panic. It says nothing of the target's
// health, so that it never opens a breaker.
type PanicError struct {
	// Value is what the function panicked with.
	Value any
	// Stack is the stack of the goroutine at the panic, as [debug.Stack] has it.
	Stack []byte
}

// newPanicError must be called by the deferred function that recovered.
func newPanicError(value any) *PanicError { return &PanicError{Value: value, Stack: debug.Stack()} }

// Error implements error. It leaves the stack out.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Format prints the stack as well for the verb %+v.
func (e *PanicError) Format(f fmt.State, verb rune) {
	if verb == 'v' && f.Flag('+') {
		fmt.Fprintf(f, "%s\n%s", e.Error(), e.Stack)
		return
	}
	fmt.Fprintf(f, fmt.FormatString(f, verb), e.Error())
}

// Unwrap returns Value when that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
