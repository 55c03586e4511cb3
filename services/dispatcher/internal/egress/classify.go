package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/postrider/postrider/pkg/postrider"
)

// maxMessage bounds what is told to people about a failed exchange.
const maxMessage = 256

// tlsError marks what went wrong in a receiver's handshake.
type tlsError struct{ err error }

func (e *tlsError) Error() string { return "tls: " + e.err.Error() }
func (e *tlsError) Unwrap() error { return e.err }

// Classify turns the error of an exchange into its class and a message for people. The first row
// that holds decides:
//
//	address refused by the guard         ssrf_blocked
//	forward proxy failed                 proxy
//	name did not resolve, in time or not dns
//	any time limit                       timeout
//	handshake or certificate             tls
//	refused, unreachable                 connect
//	connection ended early               reset
//	the answer is not HTTP               protocol
func Classify(err error) (postrider.ErrorClass, string) {
	class := classOf(err)
	return class, clip(message(class, err))
}

func classOf(err error) postrider.ErrorClass {
	var proxied *ProxyError
	var resolving *resolveError
	var handshake *tlsError
	var operation *net.OpError
	switch {
	case errors.Is(err, ErrBlocked):
		return postrider.ClassBlocked
	case errors.As(err, &proxied):
		return postrider.ClassProxy
	case errors.As(err, &resolving):
		return postrider.ClassDNS
	case timedOut(err):
		return postrider.ClassTimeout
	case errors.As(err, &handshake):
		return postrider.ClassTLS
	case errors.As(err, &operation) && operation.Op == "dial":
		return postrider.ClassConnect
	case ended(err):
		return postrider.ClassReset
	default:
		return postrider.ClassProtocol
	}
}

func timedOut(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

// endings are the texts of the transport's own errors, which have no exported type, for a
// connection or an HTTP/2 stream that the other side ended.
var endings = []string{
	"server closed idle connection",
	"stream error:",
	"server sent GOAWAY",
	"client connection lost",
	"client conn not usable",
	"client connection force closed",
}

func ended(err error) bool {
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.Canceled) {
		return true
	}
	text := err.Error()
	for _, s := range endings {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

// message leaves out what is the operator's business alone, such as the resolver's address.
func message(class postrider.ErrorClass, err error) string {
	if class == postrider.ClassDNS {
		if dns, ok := errors.AsType[*net.DNSError](err); ok {
			return "lookup " + dns.Name + ": " + dns.Err
		}
	}
	return err.Error()
}

func clip(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage]
	}
	return strings.ToValidUTF8(s, "")
}
