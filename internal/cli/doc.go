// Package cli is the command line of Rebound: [Program] runs one command line and
// returns the exit code. A command reads its flags and the settings, makes one
// call, and prints what comes of it; what the calls do is in other packages.
package cli
