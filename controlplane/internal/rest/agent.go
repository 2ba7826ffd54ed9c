package rest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/session"
	"github.com/wattlenet/wattle/generated/api"
)

// Streams serves connected agents.
type Streams interface {
	// Serve sends the events of one stream until ctx ends or the stream does.
	// Before the first line it returns a problem.
	Serve(ctx context.Context, p auth.Principal, params api.StreamAgentParams, remote netip.Addr, w session.LineWriter) error

	// Blob returns a part of the peer's snapshot, compressed; a problem of
	// kind not-found for any other.
	Blob(ctx context.Context, p auth.Principal, sha256 string) ([]byte, error)
}

// Signals passes sealed messages between agents.
type Signals interface {
	// Signal hands a message to the stream of another peer; a problem of kind
	// peer-offline when that peer has none.
	Signal(ctx context.Context, p auth.Principal, to string, box []byte) error
}

// EnrollAgent answers POST /agent/v1/enroll.
func (s *Server) EnrollAgent(ctx context.Context, r api.EnrollAgentRequestObject) (api.EnrollAgentResponseObject, error) {
	x := exchangeOf(ctx)
	if _, err := s.authenticator.VerifyEnrolment(*r.Body); err != nil {
		return nil, s.authenticator.Refused(x.remote, err)
	}
	result, err := s.state.Enroll(ctx, caller(ctx), *r.Body, x.remote)
	return api.EnrollAgent200JSONResponse(result), s.authenticator.Refused(x.remote, err)
}

// WithdrawAgent answers DELETE /agent/v1/peer.
func (s *Server) WithdrawAgent(ctx context.Context, _ api.WithdrawAgentRequestObject) (api.WithdrawAgentResponseObject, error) {
	err := s.state.WithdrawAgent(ctx, caller(ctx))
	return api.WithdrawAgent200JSONResponse{}, err
}

// SetAgentKey answers PUT /agent/v1/key.
func (s *Server) SetAgentKey(ctx context.Context, r api.SetAgentKeyRequestObject) (api.SetAgentKeyResponseObject, error) {
	err := s.state.SetAgentKey(ctx, caller(ctx), *r.Body)
	return api.SetAgentKey200JSONResponse{}, err
}

// ReportAgent answers POST /agent/v1/status.
func (s *Server) ReportAgent(ctx context.Context, r api.ReportAgentRequestObject) (api.ReportAgentResponseObject, error) {
	err := s.state.ReportAgent(ctx, caller(ctx), *r.Body, exchangeOf(ctx).remote)
	return api.ReportAgent200JSONResponse{}, err
}

// SignalAgent answers POST /agent/v1/signal.
func (s *Server) SignalAgent(ctx context.Context, r api.SignalAgentRequestObject) (api.SignalAgentResponseObject, error) {
	err := s.signals.Signal(ctx, caller(ctx), r.Body.To, r.Body.Box)
	return api.SignalAgent200JSONResponse{}, err
}

// StreamAgent answers GET /agent/v1/stream.
func (s *Server) StreamAgent(ctx context.Context, r api.StreamAgentRequestObject) (api.StreamAgentResponseObject, error) {
	return streamAnswer(func(w http.ResponseWriter) error {
		lines := newLineWriter(w)
		err := s.streams.Serve(ctx, caller(ctx), r.Params, exchangeOf(ctx).remote, lines)
		if lines.begun {
			return nil // the agent has its answer; why it ended is the session's to tell
		}
		return err
	}), nil
}

// GetBlob answers GET /agent/v1/blobs/{sha256}.
func (s *Server) GetBlob(ctx context.Context, r api.GetBlobRequestObject) (api.GetBlobResponseObject, error) {
	blob, err := s.streams.Blob(ctx, caller(ctx), r.Sha256)
	return blobAnswer(blob), err
}

// A blobAnswer is a compressed part of a snapshot. It never changes.
type blobAnswer []byte

func (blobAnswer) unencoded() {}

// VisitGetBlobResponse writes the part.
func (b blobAnswer) VisitGetBlobResponse(w http.ResponseWriter) error {
	w.Header().Set("Cache-Control", "private, max-age=31536000, immutable, no-transform")
	return api.GetBlob200ApplicationzstdResponse{Body: io.NopCloser(bytes.NewReader(b)), ContentLength: int64(len(b))}.VisitGetBlobResponse(w)
}
