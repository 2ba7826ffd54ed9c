package local

// QuerySchema names the form of QueryAnswer.
const QuerySchema = "wattle.dns-query/v1"

// QueryRequest asks for one name.
type QueryRequest struct {
	// Name is whole, or a single label of the network's own domain.
	Name string `json:"name"`

	// Type is a type of record, such as A or PTR.
	Type string `json:"type"`
}

// QueryAnswer is what the resolver of the network says.
type QueryAnswer struct {
	Schema string `json:"schema"`

	// Name and Type are what was asked for, the name whole and with a final dot.
	Name string `json:"name"`
	Type string `json:"type"`

	// Code is the code of the answer (RFC 6895, section 2.3): NOERROR, NXDOMAIN, REFUSED.
	Code string `json:"code"`

	// Authoritative says that the name belongs to the network.
	Authoritative bool `json:"authoritative"`

	// Records are in the presentation of zone files (RFC 1035, section 5); none
	// with NOERROR means that the name has no record of this type.
	Records []string `json:"records"`
}
