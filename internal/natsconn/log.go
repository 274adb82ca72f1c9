package natsconn

import (
	"errors"
	"log/slog"

	"github.com/nats-io/nats.go"
)

// logOptions returns the callbacks that log the state of a connection.
func logOptions(logger *slog.Logger, secrets redactor) []nats.Option {
	return []nats.Option{
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err == nil { // we closed it ourselves
				return
			}
			logger.Warn("disconnected from NATS", "error", secrets.error(err))
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			logger.Info("reconnected to NATS", "url", shownURL(nc.ConnectedUrl()),
				"server", nc.ConnectedServerName(), "reconnects", nc.Stats().Reconnects)
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			logger.Debug("reconnecting to NATS", "error", secrets.error(err))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			logAsync(logger, sub, secrets.error(err))
		}),
	}
}

// logAsync logs an error that no call returns: a missing permission, a subscription that
// falls behind, refused credentials.
func logAsync(logger *slog.Logger, sub *nats.Subscription, err error) {
	log := logger.With("error", err)
	if sub != nil {
		log = log.With("subject", sub.Subject)
	}
	if !errors.Is(err, nats.ErrSlowConsumer) || sub == nil {
		log.Error("NATS reports an error")
		return
	}
	dropped, derr := sub.Dropped()
	if derr != nil {
		dropped = -1 // the subscription has ended meanwhile
	}
	log.Error("a subscription falls behind and loses messages", "dropped", dropped)
}
