"""Recommending as a graph: arithmetic on padded tensors, without a choice by data."""
