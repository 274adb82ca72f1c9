// Command cmd is the program of package natsd.
package main

import (
	"fmt"
	"os"

	"github.com/rebound-mq/rebound/internal/testkit/natsd"
)

func main() {
	if err := natsd.Run(os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
