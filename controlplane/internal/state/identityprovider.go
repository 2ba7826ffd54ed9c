package state

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/url"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/seal"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// providerBody is what the store keeps of an identity provider besides its name.
type providerBody struct {
	Type     api.IdentityProviderType `json:"type"`
	ClientID string                   `json:"client_id"`
	Issuer   string                   `json:"issuer"`
	// Secret names the row that holds the client secret, sealed; empty for none.
	// A new secret gets a new row, so the audit tells that it changed.
	Secret string `json:"client_secret_row,omitempty"`
}

var identityProviders = &noun[providerBody, api.IdentityProvider]{
	kind: store.KindIdentityProvider, title: "identity provider",
	creating: api.PermissionIdentityProvidersCreate, changing: api.PermissionIdentityProvidersUpdate, deleting: api.PermissionIdentityProvidersDelete,
	in:     func(a *account) *ordered[object[providerBody]] { return &a.identityProviders },
	unique: func(name string, _ providerBody) (field, value string) { return "name", name },
	show: func(_ *account, o object[providerBody]) api.IdentityProvider {
		return api.IdentityProvider{Id: o.ID, Type: o.Body.Type, Name: o.Name, ClientId: o.Body.ClientID, Issuer: o.Body.Issuer, Version: o.Version}
	},
}

// ListIdentityProviders lists the identity providers; secrets are never shown.
func (s *State) ListIdentityProviders(_ context.Context, p auth.Principal, params api.ListIdentityProvidersParams) ([]api.IdentityProvider, string, error) {
	return identityProviders.list(s, p, page{params.Ids, params.Limit, params.Cursor}, withName[providerBody](params.Name))
}

// GetIdentityProvider reads an identity provider; its secret is never shown.
func (s *State) GetIdentityProvider(_ context.Context, p auth.Principal, id string) (api.IdentityProvider, error) {
	return identityProviders.get(s, p, "", id)
}

// CreateIdentityProvider adds an identity provider. A taken name is a conflict.
func (s *State) CreateIdentityProvider(ctx context.Context, p auth.Principal, req api.IdentityProviderRequest) (api.IdentityProvider, error) {
	req.ApplyDefaults()
	return identityProviders.create(ctx, s, p, func(w *write) (string, providerBody, error) { return w.wantProvider(req, "") })
}

// UpdateIdentityProvider replaces an identity provider. An absent secret stays.
func (s *State) UpdateIdentityProvider(
	ctx context.Context, p auth.Principal, id string, req api.IdentityProviderRequest, ifMatch string,
) (api.IdentityProvider, error) {
	req.ApplyDefaults()
	return identityProviders.update(ctx, s, p, "", id, ifMatch, func(w *write, had object[providerBody]) (string, providerBody, error) {
		return w.wantProvider(req, had.Body.Secret)
	})
}

// DeleteIdentityProvider removes an identity provider with its secret.
func (s *State) DeleteIdentityProvider(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return identityProviders.delete(ctx, s, p, "", id, ifMatch, func(w *write, had object[providerBody]) error {
		return w.forgetSecret(had.Body.Secret)
	})
}

// wantProvider checks a request and keeps its secret; had is the row of the
// present one, empty for none.
func (w *write) wantProvider(req api.IdentityProviderRequest, had string) (name string, body providerBody, err error) {
	var more []problem.FieldError
	if wrong := checkIssuer(req.Issuer); wrong != "" {
		more = append(more, problem.Field("issuer", "%s", wrong))
	}
	if err := faults(req.Validate(), more...); err != nil {
		return "", body, err
	}
	body = providerBody{Type: api.IdentityProviderType(req.Type), ClientID: req.ClientId, Issuer: req.Issuer, Secret: had}
	if req.ClientSecret != nil {
		body.Secret, err = w.keepSecret(had, *req.ClientSecret)
	}
	return req.Name, body, err
}

// checkIssuer says why a text of the right letters is no issuer; "" when it is
// one. The text itself is kept as it is: tokens repeat it letter by letter.
func checkIssuer(text string) string {
	at, err := url.Parse(text)
	switch {
	case err != nil || at.Scheme != "https" || at.Hostname() == "":
		return fmt.Sprintf("must be a URL such as https://login.example.org, not %q", text)
	case at.User != nil || at.RawQuery != "" || at.ForceQuery || at.Fragment != "":
		return "must have neither user nor query nor fragment"
	}
	return ""
}

// secretPlace is where a sealed value of an object is kept.
func secretPlace(row string) seal.Place {
	return seal.Place{Table: "secret", Column: "sealed", Row: row}
}

// keepSecret seals a value in a row of its own, in place of the row had, and
// returns the row. The present value again changes nothing.
func (w *write) keepSecret(had, value string) (row string, err error) {
	if had != "" {
		sealed, err := store.FindSecret(w.ctx, w.tx, had)
		if err != nil {
			return "", fmt.Errorf("read secret %s: %w", had, err)
		}
		present, err := w.keys.Open(secretPlace(had), sealed)
		if err != nil {
			return "", fmt.Errorf("secret %s: %w", had, err)
		}
		if subtle.ConstantTimeCompare(present, []byte(value)) == 1 {
			return had, nil
		}
	}
	row = "identity-provider/" + newID()
	if err := store.AddSecret(w.ctx, w.tx, row, w.keys.Seal(secretPlace(row), []byte(value))); err != nil {
		return "", err
	}
	return row, w.forgetSecret(had)
}

func (w *write) forgetSecret(row string) error {
	if row == "" {
		return nil
	}
	return store.DeleteSecret(w.ctx, w.tx, row)
}
