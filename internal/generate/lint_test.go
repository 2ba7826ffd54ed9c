package main

import (
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func library(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("testdata/library.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// refuse parses and checks a contract as the generator does and returns the
// findings, in their order.
func refuse(t *testing.T, text string) []finding {
	t.Helper()
	doc, err := parseDocument("library.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	err = lint(doc)
	if err == nil {
		types, typesErr := emitTypes(tree{}, doc)
		if typesErr != nil {
			t.Fatal(typesErr)
		}
		_, err = newModel(config{Provider: "library", Import: "example.org/x"}, doc, types)
	}
	if err == nil {
		return nil
	}
	var f *findings
	if !errors.As(err, &f) {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(f.Error(), "\n") {
		if !regexp.MustCompile(`^library\.yaml:\d+:\d+: (R\d+|noun|action): .+`).MatchString(line) {
			t.Errorf("finding %q is not file:line:column: rule: text", line)
		}
	}
	return f.list
}

func TestContractWithoutFaults(t *testing.T) {
	if got := refuse(t, library(t)); got != nil {
		t.Fatalf("findings %v, want none", got)
	}
}

// TestRefusals breaks the contract in one place each. The first finding must
// name the rule, say what is wrong, and stand on the line of the break, which
// is the line of the text after "<<" when there is one.
func TestRefusals(t *testing.T) {
	for _, c := range []struct{ name, old, fresh, rule, says, at string }{
		{"R1 nothing says what absence means", "capacity: {type: integer, format: int64, minimum: 1, maximum: 1000, default: 100, description: How many books fit.}\n        open: {type: boolean, default: true, description: Whether readers may take books.}\n        opened_at: {type: [string, \"null\"], format: date-time, description: Since when it is open.}\n        keepers: {type: array, uniqueItems: true, maxItems: 256, items: {type: string}", "capacity: {type: integer, minimum: 1, description: How many books fit.}\n        open: {type: boolean, default: true, description: Whether readers may take books.}\n        opened_at: {type: [string, \"null\"], format: date-time, description: Since when it is open.}\n        keepers: {type: array, uniqueItems: true, maxItems: 256, items: {type: string}", "R1", "nothing says what its absence means", "capacity: {type: integer, minimum: 1, description"},
		{"R1 two ways at once", `required: [title]`, `required: [title, pages]`, "R1", "default and required at once", ""},
		{"R1 nullable array without minItems", `authors: {type: [array, "null"], uniqueItems: true, minItems: 1, maxItems: 8, items: {type: string}`, `authors: {type: [array, "null"], uniqueItems: true, maxItems: 8, items: {type: string}`, "R1", "minItems: 1", `authors: {type: [array, "null"], uniqueItems: true, maxItems: 8, items: {type: string}`},
		{"R1 either-or of what is not there", "oneOf: [[author, authors]]", "oneOf: [[author, writers]]", "R1", "names writers", "oneOf: [[author, writers]]"},
		{"R2 volatile and writable", "books_count: {type: integer, readOnly: true, ", "books_count: {type: integer, ", "R2", "must be readOnly", "books_count: {type: integer, description"},
		{"R2 in no request", "issued: {type: string, readOnly: true,", "issued: {type: string,", "R2", "is in no request", "issued: {type: string,"},
		{"R3 array of unknown kind", "prices: {type: array, uniqueItems: false, maxItems: 3, default: [], items: {type: integer}, description: \"Prices, the newest last.\"}\n    LibraryCard:", "prices: {type: array, maxItems: 3, default: [], items: {type: integer}, description: \"Prices, the newest last.\"}\n    LibraryCard:", "R3", "write uniqueItems", "prices: {type: array, maxItems"},
		{"R3 key that is no field", "chapters: {type: array, maxItems: 16, items: {$ref: \"#/components/schemas/ChapterRequest\"}, default: [], description: Chapters by title., x-terraform: {key: title}}", "chapters: {type: array, maxItems: 16, items: {$ref: \"#/components/schemas/ChapterRequest\"}, default: [], description: Chapters by title., x-terraform: {key: number}}", "R3", "keyed by number", "x-terraform: {key: number}"},
		{"R4 PUT answers another schema", "\"200\": {description: The vendor., content: {application/json: {schema: {$ref: \"#/components/schemas/Vendor\"}}}}\n        \"404\": {$ref: \"#/components/responses/Problem\"}\n        \"422\"", "\"200\": {description: The vendor., content: {application/json: {schema: {$ref: \"#/components/schemas/Shelf\"}}}}\n        \"404\": {$ref: \"#/components/responses/Problem\"}\n        \"422\"", "R4", "answers Shelf, not Vendor", "x-terraform-resource: {name: vendor"},
		{"R4 accepted and not shown", "address: {type: string, format: ipv4, description: Address of the vendor's server.}\n        password", "address: {type: string, format: ipv4, description: Address of the vendor's server.}\n        mood: {type: string, default: good, description: His mood.}\n        password", "R4", "does not show it", "mood:"},
		{"R5 format without a spelling", "address: {type: string, format: ipv4, description: Address of the vendor's server.}\n        password", "address: {type: string, format: ipaddr, description: Address of the vendor's server.}\n        password", "R5", "format ipaddr", "format: ipaddr"},
		{"R6 PUT leaves it out", "days: {type: integer, minimum: 0, default: 0, description: \"How long it is valid; 0 is for ever.\", x-terraform: {immutable: true}}\n        uses: {type: integer, minimum: 0, description: \"How often it may be used; the library chooses when unset.\", x-terraform: {computed: true, immutable: true}}\n        groups: {type: array, uniqueItems: true, maxItems: 16, default: [], items: {type: string}, description: Shelves it opens., x-terraform: {references: shelf}}\n        revoked: {type: boolean, default: false, description: Whether it is void.}\n    LibraryCardUpdate", "days: {type: integer, minimum: 0, default: 0, description: \"How long it is valid; 0 is for ever.\"}\n        uses: {type: integer, minimum: 0, description: \"How often it may be used; the library chooses when unset.\", x-terraform: {computed: true, immutable: true}}\n        groups: {type: array, uniqueItems: true, maxItems: 16, default: [], items: {type: string}, description: Shelves it opens., x-terraform: {references: shelf}}\n        revoked: {type: boolean, default: false, description: Whether it is void.}\n    LibraryCardUpdate", "R6", "mark it immutable", "days: {type: integer, minimum: 0, default: 0, description: \"How long it is valid; 0 is for ever.\"}"},
		{"R6 chosen by the server and changeable", "x-terraform: {computed: true, immutable: true}}\n        groups: {type: array, uniqueItems: true, maxItems: 16, default: [], items: {type: string}, description: Shelves it opens., x-terraform: {references: shelf}}\n        revoked: {type: boolean, default: false, description: Whether it is void.}\n    LibraryCardUpdate", "x-terraform: {computed: true}}\n        groups: {type: array, uniqueItems: true, maxItems: 16, default: [], items: {type: string}, description: Shelves it opens., x-terraform: {references: shelf}}\n        revoked: {type: boolean, default: false, description: Whether it is void.}\n    LibraryCardUpdate", "R6", "must be immutable", "x-terraform: {computed: true}}"},
		{"R7 password that is read", "    Vendor:\n      type: object\n      description: A vendor sells books.\n      x-terraform-resource: {name: vendor, path: /api/vendors, lookup: [name]}\n      required: [id, name, address, terms]\n      properties:", "    Vendor:\n      type: object\n      description: A vendor sells books.\n      x-terraform-resource: {name: vendor, path: /api/vendors, lookup: [name]}\n      required: [id, name, address, terms]\n      properties:\n        password: {type: string, readOnly: true, description: His password.}", "R7", "secret in an answer", "password: {type: string, readOnly: true"},
		{"R7 password that is written plainly", ", x-terraform: {secret: write}}", "}", "R7", "mark it secret: write", "password: {type: [string"},
		{"R7 secret of no kind", "secret: create}}\n        used_times", "secret: shown}}\n        used_times", "R7", "known are create, lasting and write", "secret: shown"},
		{"R8 made by the server inside a map", "id: {type: string, readOnly: true, description: Id of the chapter., x-terraform: {volatile: true}}", "id: {type: string, readOnly: true, description: Id of the chapter.}", "R8", "inside a collection", "chapters: {type: array, maxItems: 16, items: {$ref: \"#/components/schemas/ChapterRequest\"}"},
		{"R9 item without 404", "operationId: getVendor\n      description: Returns one vendor.\n      x-permission: vendor:read\n      responses:\n        \"200\": {description: The vendor., content: {application/json: {schema: {$ref: \"#/components/schemas/Vendor\"}}}}\n        \"404\": {$ref: \"#/components/responses/Problem\"}\n", "operationId: getVendor\n      description: Returns one vendor.\n      x-permission: vendor:read\n      responses:\n        \"200\": {description: The vendor., content: {application/json: {schema: {$ref: \"#/components/schemas/Vendor\"}}}}\n", "R9", "does not declare 404", ""},
		{"R9 If-Match without 412", "        \"412\": {$ref: \"#/components/responses/Problem\"}\n        \"422\": {$ref: \"#/components/responses/Problem\"}\n    delete", "        \"422\": {$ref: \"#/components/responses/Problem\"}\n    delete", "R9", "does not declare 412", ""},
		{"R11 set without end", "labels: {type: array, uniqueItems: true, maxItems: 16, default: [], items: {type: string}, description: Free words.}\n        capacity: {type: integer, format: int64, minimum: 1, maximum: 1000, default: 100, description: How many books fit.}\n        open: {type: boolean, default: true, description: Whether readers may take books.}\n        opened_at: {type: [string, \"null\"], format: date-time, description: Since when it is open.}\n        keepers: {type: array, uniqueItems: true, maxItems: 256, items", "labels: {type: array, uniqueItems: true, default: [], items: {type: string}, description: Free words.}\n        capacity: {type: integer, format: int64, minimum: 1, maximum: 1000, default: 100, description: How many books fit.}\n        open: {type: boolean, default: true, description: Whether readers may take books.}\n        opened_at: {type: [string, \"null\"], format: date-time, description: Since when it is open.}\n        keepers: {type: array, uniqueItems: true, maxItems: 256, items", "R11", "needs maxItems", "labels: {type: array, uniqueItems: true, default"},
		{"R11 set too large", "staff: {type: array, uniqueItems: true, maxItems: 256, items: {type: string}, description: Readers who work here., x-terraform: {references: reader, optIn: true}}\n    Reader:", "staff: {type: array, uniqueItems: true, maxItems: 5000, items: {type: string}, description: Readers who work here., x-terraform: {references: reader, optIn: true}}\n    Reader:", "R11", "at most 256", "maxItems: 5000"},
		{"R5 pattern without words", ", x-form: four digits", "", "R5", "what it asks for", "pattern: "},
		{"R12 operation without permission", "      x-permission: book:create\n", "", "R12", "names no permission", ""},
		{"R12 permission of another form", "x-permission: book:create", "x-permission: books.write", "R12", "is not noun:create", "x-permission: books.write"},
		{"R12 anonymous and credentials", "      security: []\n      x-permission: anonymous", "      x-permission: anonymous", "R12", "go together", ""},
		{"R12 description that is no sentence", "description: What stands here.}\n        room: {type: string, enum: [hall, cellar], default: hall, description: Where it stands.}\n        labels: {type: array, uniqueItems: true, maxItems: 16, default: [], items: {type: string}, description: Free words.}\n        capacity: {type: integer, format: int64, minimum: 1, maximum: 1000, default: 100, description: How many books fit.}\n        open: {type: boolean, default: true, description: Whether readers may take books.}\n        opened_at: {type: [string, \"null\"], format: date-time, description: Since when it is open.}\n        keepers: {type: array, uniqueItems: true, maxItems: 256, items", "description: text}\n        room: {type: string, enum: [hall, cellar], default: hall, description: Where it stands.}\n        labels: {type: array, uniqueItems: true, maxItems: 16, default: [], items: {type: string}, description: Free words.}\n        capacity: {type: integer, format: int64, minimum: 1, maximum: 1000, default: 100, description: How many books fit.}\n        open: {type: boolean, default: true, description: Whether readers may take books.}\n        opened_at: {type: [string, \"null\"], format: date-time, description: Since when it is open.}\n        keepers: {type: array, uniqueItems: true, maxItems: 256, items", "R12", "at least a sentence", "description: text}"},
		{"R12 unknown word", "x-terraform: {secret: create}", "x-terraform: {secret: create, magic: true}", "R12", "magic is no word", "magic: true"},
		{"R12 problem without title", "title: Not found, ", "", "R12", "needs a title", "not-found: {"},
		{"R12 problem missing", "  in-use: {status: 400, title: In use, description: Something refers to it.}\n", "", "R12", "in-use is missing", "x-problems:"},
		{"R10 was without a version", "lookup: [name], version: 1}", "lookup: [name]}", "R10", "give reader version 1 or higher", ""},
		{"R10 was that is still there", "optIn: true, was: noisy}}\n        member_since", "optIn: true, was: name}}\n        member_since", "R10", "has an attribute name still", ""},
		{"R10 two successors", "x-terraform: {optIn: true}}\n        loud: {type: boolean, description: Whether he talks., x-terraform: {optIn: true, was: noisy}}\n        member_since", "x-terraform: {optIn: true, was: noisy}}\n        loud: {type: boolean, description: Whether he talks., x-terraform: {optIn: true, was: noisy}}\n        member_since", "R10", "one successor", ""},
		{"R10 attributes gone without a version", "version: 2, was: [subtitle]", "was: [subtitle]", "R10", "give it version 1 or higher", ""},
		{"R12 flatten beside the component", "description: Its only figure.}", "description: Its only figure., x-terraform: {flatten: true}}", "R12", "stands on the component", "flatten: true"},
		{"R1 flatten inside a collection", "description: A figure.\n      required", "description: A figure.\n      x-terraform: {flatten: true}\n      required", "R1", "make it required", ""},
		{"R1 flatten that may be absent", "required: [name, address, terms]\n      properties:\n        name: {type: string, minLength: 1, maxLength: 40, description: Name of the vendor.}\n        address: {type: string, format: ipv4, description: Address of the vendor's server.}\n        password", "required: [name, address]\n      properties:\n        name: {type: string, minLength: 1, maxLength: 40, description: Name of the vendor.}\n        address: {type: string, format: ipv4, description: Address of the vendor's server.}\n        password", "R1", "make it required", ""},
		{"R12 flatten below the top", "required: [days]\n      properties:\n        days: {type: integer, minimum: 1, maximum: 30", "required: [days, terms]\n      properties:\n        terms: {$ref: \"#/components/schemas/VendorTerms\"}\n        days: {type: integer, minimum: 1, maximum: 30", "R12", "at the top of a noun only", ""},
		{"R12 flatten with two of a name", "discount: {type: [integer", "address: {type: [integer", "R12", "would stand beside", ""},
		{"R12 flatten of nothing", "description: What the library and the vendor agreed.\n      x-terraform: {flatten: true}\n      minProperties: 1\n      properties:", "description: What the library and the vendor agreed.\n      x-terraform: {flatten: true}\n      additionalProperties:", "R12", "nothing to flatten", ""},
		{"R1 minProperties above one", "minProperties: 1", "minProperties: 2", "R1", "only minProperties: 1 is known", "minProperties: 2"},
		{"R1 minProperties of what is always there", "discount: {type: [integer, \"null\"]", "discount: {type: [integer]", "R1", "stands in minProperties and must be nullable", ""},
		{"R12 action with a word that means nothing", "x-terraform-action: {name: dismiss_vendor}", "x-terraform-action: {name: dismiss_vendor, kind: x}", "R12", "kind is no word of x-terraform-action", "x-terraform-action: {"},
		{"action without a name", "x-terraform-action: {name: dismiss_vendor}", "x-terraform-action: {}", "action", "needs a name", "x-terraform-action: {}"},
		{"action that only reads", "operationId: getVendor\n", "operationId: getVendor\n      x-terraform-action: {name: look_at_vendor}\n", "action", "only reads", "x-terraform-action: {name: look"},
		{"action with a body", "x-permission: vendor:create\n", "x-permission: vendor:create\n      x-terraform-action: {name: hire_vendor}\n", "action", "needs a body", "x-terraform-action: {name: hire"},
		{"two actions of a name", "x-permission: book:delete\n", "x-permission: book:delete\n      x-terraform-action: {name: dismiss_vendor}\n", "action", "names another action already", ""},
		{"noun without a path", "path: /api/vendors, ", "", "noun", "needs name and path", "x-terraform-resource: {name: vendor"},
		{"noun with a path that is not there", "path: /api/vendors, ", "path: /api/sellers, ", "noun", "is not in the contract", "path: /api/sellers"},
		{"singleton with POST", "    patch:\n      operationId: updateHouseRules", "    post:\n      operationId: createHouseRules\n      description: Makes the rules.\n      x-permission: house_rules:create\n      responses:\n        \"200\": {description: Gone.}\n    patch:\n      operationId: updateHouseRules", "noun", "has no place", "post:\n      operationId: createHouseRules"},
		{"reference to no noun", "x-terraform: {references: reader, optIn: true}}\n        issued", "x-terraform: {references: ghost, optIn: true}}\n        issued", "noun", "which is no noun", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := library(t)
			if strings.Count(text, c.old) == 0 {
				t.Fatalf("the contract does not contain %q", c.old)
			}
			text = strings.Replace(text, c.old, c.fresh, 1)
			got := refuse(t, text)
			if len(got) == 0 {
				t.Fatal("no finding")
			}
			i := 0
			for i < len(got)-1 && (got[i].rule != c.rule || !strings.Contains(got[i].text, c.says)) {
				i++
			}
			f := got[i]
			if f.rule != c.rule || !strings.Contains(f.text, c.says) {
				t.Fatalf("findings %v, want %s: ... %s ...", got, c.rule, c.says)
			}
			if c.at == "" {
				return
			}
			if want := 1 + strings.Count(text[:strings.Index(text, c.at)], "\n"); f.line != want {
				t.Errorf("line %d, want %d: %s", f.line, want, strconv.Quote(c.at))
			}
		})
	}
}

// TestAllFaultsAtOnce: three faults give three findings, in file order.
func TestAllFaultsAtOnce(t *testing.T) {
	text := library(t)
	for _, old := range []string{"      x-permission: book:create\n", "      x-permission: vendor:create\n", "      x-permission: shelf:create\n"} {
		text = strings.Replace(text, old, "", 1)
	}
	got := refuse(t, text)
	if len(got) != 3 {
		t.Fatalf("%d findings, want 3: %v", len(got), got)
	}
	if got[0].line > got[1].line || got[1].line > got[2].line {
		t.Errorf("lines %d, %d, %d are not in order", got[0].line, got[1].line, got[2].line)
	}
}
