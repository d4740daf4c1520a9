"""Questions and answers: sources, their mixture, and the prompt template."""
