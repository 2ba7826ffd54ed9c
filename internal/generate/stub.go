package main
func emitDocs(tree,*model)error{return nil}
