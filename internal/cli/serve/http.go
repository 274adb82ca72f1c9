package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"
)

const httpTimeout = 5 * time.Second

// listenHTTP listens on addr, or nowhere when it is empty.
func listenHTTP(ctx context.Context, addr string) (httpListener, error) {
	if addr == "" {
		return httpListener{}, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return httpListener{}, fmt.Errorf("listening on %s for HTTP: the port is already in use; choose another with --http, or none with --http off", addr)
	}
	if err != nil {
		return httpListener{}, fmt.Errorf("listening for HTTP: %w; choose another address with --http", err)
	}
	return httpListener{l}, nil
}

// httpListener listens for HTTP, or is nil.
type httpListener struct{ net.Listener }

// Close implements [net.Listener].
func (l httpListener) Close() error {
	if l.Listener == nil {
		return nil
	}
	return l.Listener.Close()
}

// address returns the address as text, empty for none.
func (l httpListener) address() string {
	if l.Listener == nil {
		return ""
	}
	return l.Listener.Addr().String()
}

// serveHTTP serves HTTP until the server is closed. The channel yields a failure.
func serveHTTP(l httpListener, handler http.Handler) (*http.Server, <-chan error) {
	web := &http.Server{Handler: handler, ReadHeaderTimeout: httpTimeout, ReadTimeout: httpTimeout, IdleTimeout: time.Minute}
	failed := make(chan error, 1)
	if l.Listener != nil {
		go func() {
			if err := web.Serve(l.Listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serving HTTP: %w", err)
			}
		}()
	}
	return web, failed
}
