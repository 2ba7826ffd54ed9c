package rest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/state"
	"github.com/wattlenet/wattle/internal/program"
)

// maxIdempotencyKey is the limit that the contract names.
const maxIdempotencyKey = 128

// secretAnswers are the operations whose answer holds a secret. It is kept
// sealed, for a short time, and no cache may keep it.
var secretAnswers = map[string]bool{
	"SetupInstance": true, "CreateToken": true, "CreateSetupKey": true, "RenderCloudInit": true,
	"CreateInvite": true, "RegenerateInvite": true, "GetInviteInfo": true, "AcceptInvite": true,
}

// repeatable reports whether a request is a create that names an
// Idempotency-Key, and who asks is known.
func repeatable(r *http.Request, x *exchange) bool {
	return r.Method == http.MethodPost && !x.operation.PlainBody && r.Header.Get("Idempotency-Key") != "" &&
		(x.caller.Kind == auth.KindUser || x.caller.Kind == auth.KindServiceUser)
}

// serveOnce carries out a create at most once for its Idempotency-Key. A
// repeated request gets the answer of the first.
func (s *Server) serveOnce(w http.ResponseWriter, r *http.Request, raw []byte) {
	key := r.Header.Get("Idempotency-Key")
	if len(key) > maxIdempotencyKey {
		s.refuse(w, r, problem.Invalid(problem.Field("Idempotency-Key", "must have at most %d characters", maxIdempotencyKey)))
		return
	}
	ctx, claim, kept, err := s.state.Claim(r.Context(), caller(r.Context()), key, requestHash(r, raw))
	switch {
	case err != nil:
		s.refuse(w, r, err)
	case kept != nil:
		w.Header().Set("Idempotent-Replayed", "true")
		writeKept(w, exchangeOf(r.Context()).operation.ID, kept)
	default:
		s.answerAndKeep(w, r.WithContext(ctx), claim)
	}
}

// answerAndKeep keeps the answer before it is sent: who did not get it may ask
// again. A refusal is not kept, since its cause may go away.
func (s *Server) answerAndKeep(w http.ResponseWriter, r *http.Request, claim *state.Claim) {
	x := exchangeOf(r.Context())
	held := &heldAnswer{ResponseWriter: w, status: http.StatusOK}
	var answer *state.Answer
	defer func() { // a panic gives the claim back too
		if err := s.state.Finish(context.WithoutCancel(r.Context()), claim, answer); err != nil {
			s.logger.Warn("answer not kept", program.KeyRequest, x.requestID, program.KeyError, err)
		}
		if answer != nil || held.status != http.StatusOK {
			held.release()
		}
	}()
	s.operations.ServeHTTP(held, r)
	if held.status == http.StatusOK {
		answer = &state.Answer{Status: held.status, Body: held.body.Bytes(), Secret: secretAnswers[x.operation.ID]}
	}
}

// writeKept sends a kept answer again.
func writeKept(w http.ResponseWriter, operationID string, kept *state.Answer) {
	w.Header().Set("Content-Type", jsonType)
	w.Header().Set("Cache-Control", "no-store")
	if tag := keptTag(operationID, kept.Body); tag != "" {
		w.Header().Set("ETag", tag)
	}
	w.WriteHeader(kept.Status)
	_, _ = w.Write(kept.Body) //nolint:gosec // JSON with nosniff, to the caller who sent it; one that went away gets nothing more
}

// keptTag is the ETag that the answer had when it was first given: its version
// stands in it.
func keptTag(operationID string, body []byte) string {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return "" // no object, so it has no version
	}
	for _, name := range versionMembers {
		var version int64
		if json.Unmarshal(members[name.wire], &version) == nil {
			return objectTag(operationID, version, body)
		}
	}
	return ""
}

// requestHash tells a repeated request from another one under the same key.
func requestHash(r *http.Request, raw []byte) [sha256.Size]byte {
	hash := sha256.New()
	hash.Write([]byte(r.Method + " " + r.URL.RequestURI() + "\n")) // a hash never fails to write
	hash.Write(raw)
	return [sha256.Size]byte(hash.Sum(nil))
}

// A heldAnswer keeps status and body back until release; the header goes
// straight to the response.
type heldAnswer struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (h *heldAnswer) WriteHeader(status int) { h.status = status }

func (h *heldAnswer) Write(text []byte) (int, error) { return h.body.Write(text) }

// Unwrap lets http.ResponseController reach the connection.
func (h *heldAnswer) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h *heldAnswer) release() {
	h.ResponseWriter.WriteHeader(h.status)
	_, _ = h.ResponseWriter.Write(h.body.Bytes()) // a caller that went away gets nothing more
}
