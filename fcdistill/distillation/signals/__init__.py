"""The teacher's numbers: from a model beside the student, or from disk."""
