package rest

import "net/http"

// allowOrigins lets pages of any origin call the API. Tokens travel in a header
// that a page must know, never in a cookie, so there is nothing to forge.
func allowOrigins(header http.Header) {
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("Access-Control-Expose-Headers", "ETag, Link, Retry-After, X-Request-ID")
}

// preflight answers a CORS preflight (Fetch standard, section 3.2.2).
func preflight(w http.ResponseWriter) {
	header := w.Header()
	header.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
	header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Managed-By, X-Request-ID")
	header.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
}
