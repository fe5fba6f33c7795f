"""What tests, benchmarks and demonstrations of S3 clients stand on: servers, conformance suites, measurements."""
