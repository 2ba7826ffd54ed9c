// Package function holds the provider's functions: pure, without a client, and
// known while Terraform plans.
package function

import (
	"context"
	"net/netip"

	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/wattlenet/wattle/internal/label"
)

// pure is a function over texts.
type pure struct {
	name, summary string
	parameters    []function.Parameter
	result        function.Return
	run           func(context.Context, function.ArgumentsData) (any, *function.FuncError)
}

// All returns a factory of each function.
func All(context.Context) []func() function.Function {
	out := make([]func() function.Function, len(functions))
	for i := range functions {
		out[i] = func() function.Function { return &functions[i] }
	}
	return out
}

// Metadata names the function.
func (p *pure) Metadata(_ context.Context, _ function.MetadataRequest, resp *function.MetadataResponse) {
	resp.Name = p.name
}

// Definition says what it takes and gives.
func (p *pure) Definition(_ context.Context, _ function.DefinitionRequest, resp *function.DefinitionResponse) {
	resp.Definition = function.Definition{Summary: p.summary, MarkdownDescription: p.summary, Parameters: p.parameters, Return: p.result}
}

// Run calls it.
func (p *pure) Run(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
	result, fault := p.run(ctx, req.Arguments)
	if resp.Error = fault; fault == nil {
		resp.Error = resp.Result.Set(ctx, result)
	}
}

func text(name, doc string) function.Parameter {
	return function.StringParameter{Name: name, MarkdownDescription: doc}
}

var functions = []pure{
	{
		name:       "canonical_cidr",
		summary:    "Writes a network in the one spelling that the API accepts: without bits behind its length, in lower case; a single address gets its full length.",
		parameters: []function.Parameter{text("cidr", "A network or an address.")},
		result:     function.StringReturn{},
		run: func(ctx context.Context, args function.ArgumentsData) (any, *function.FuncError) {
			p, fault := prefixes(ctx, args, 1)
			if fault != nil {
				return nil, fault
			}
			return p[0].String(), nil
		},
	},
	{
		name:       "cidr_contains",
		summary:    "Tells whether every address of one network is in another one.",
		parameters: []function.Parameter{text("outer", "The network that may contain the other one."), text("inner", "A network or an address.")},
		result:     function.BoolReturn{},
		run: func(ctx context.Context, args function.ArgumentsData) (any, *function.FuncError) {
			p, fault := prefixes(ctx, args, 2)
			if fault != nil {
				return nil, fault
			}
			return contains(p[0], p[1]), nil
		},
	},
	{
		name:       "cidr_overlaps",
		summary:    "Tells whether two networks have an address in common, as two sites that are to be joined must not.",
		parameters: []function.Parameter{text("one", "A network or an address."), text("other", "A network or an address.")},
		result:     function.BoolReturn{},
		run: func(ctx context.Context, args function.ArgumentsData) (any, *function.FuncError) {
			p, fault := prefixes(ctx, args, 2)
			if fault != nil {
				return nil, fault
			}
			return p[0].Overlaps(p[1]), nil
		},
	},
	{
		name:    "cidr_exclude",
		summary: "Lists the fewest networks that hold all addresses of a network but those of others: what to route when a part stays outside.",
		parameters: []function.Parameter{
			text("cidr", "The whole network."),
			function.ListParameter{Name: "excluded", ElementType: types.StringType, MarkdownDescription: "Networks and addresses to leave out; those that lie elsewhere change nothing."},
		},
		result: function.ListReturn{ElementType: types.StringType},
		run:    runExclude,
	},
	{
		name:       "dns_label",
		summary:    "Writes a host name as the label that the control plane makes of it: `Web_1.example.org` is `web-1`. When another peer has that label already, the control plane adds a number.",
		parameters: []function.Parameter{text("host_name", "The name of the machine.")},
		result:     function.StringReturn{},
		run: func(ctx context.Context, args function.ArgumentsData) (any, *function.FuncError) {
			var name string
			fault := args.Get(ctx, &name)
			return label.Of(name), fault
		},
	},
	{
		name:    "up_command",
		summary: "Writes the command with which a machine joins, quoted for a shell. It names a file with the setup key instead of the key, which would stand in the list of processes.",
		parameters: []function.Parameter{
			text("management_url", "The address of the control plane: `https://host:port`."),
			text("ca_pin", "The pin of its certificate authority, `sha256:` and 64 hexadecimal digits; empty for a certificate that the system trusts."),
			text("setup_key_file", "The full path of the file on the machine that holds the setup key."),
		},
		result: function.StringReturn{},
		run: func(ctx context.Context, args function.ArgumentsData) (any, *function.FuncError) {
			var server, caPin, keyFile string
			if fault := args.Get(ctx, &server, &caPin, &keyFile); fault != nil {
				return nil, fault
			}
			command, argument, err := upCommand(server, caPin, keyFile)
			if err != nil {
				return nil, function.NewArgumentFuncError(argument, err.Error())
			}
			return command, nil
		},
	},
}

// prefixes reads the first n arguments as networks.
func prefixes(ctx context.Context, args function.ArgumentsData, n int) ([]netip.Prefix, *function.FuncError) {
	out := make([]netip.Prefix, n)
	for i := range out {
		var text string
		if fault := args.GetArgument(ctx, i, &text); fault != nil {
			return nil, fault
		}
		p, err := parsePrefix(text)
		if err != nil {
			return nil, function.NewArgumentFuncError(int64(i), err.Error())
		}
		out[i] = p
	}
	return out, nil
}

func runExclude(ctx context.Context, args function.ArgumentsData) (any, *function.FuncError) {
	whole, fault := prefixes(ctx, args, 1)
	if fault != nil {
		return nil, fault
	}
	var given []string
	if fault := args.GetArgument(ctx, 1, &given); fault != nil {
		return nil, fault
	}
	holes := make([]netip.Prefix, len(given))
	for i, text := range given {
		p, err := parsePrefix(text)
		if err != nil {
			return nil, function.NewArgumentFuncError(1, err.Error())
		}
		holes[i] = p
	}
	out := []string{}
	for _, p := range exclude(whole[0], holes) {
		out = append(out, p.String())
	}
	return out, nil
}
