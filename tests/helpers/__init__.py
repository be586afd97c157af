"""What tests share: fakes, made findings, references and servers."""
