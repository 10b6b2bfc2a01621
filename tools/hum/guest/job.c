// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/guest/job.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

// The text after "key=", or null if the record has another key.
static char* value_of(char* record, const char* key) {
  size_t length = strlen(key);
  return strncmp(record, key, length) == 0 && record[length] == '=' ? record + length + 1 : NULL;
}

static bool parse_size(const char* text, struct hum_job* job) {
  char* end = NULL;
  unsigned long rows = strtoul(text, &end, 10);
  if (end == text || *end != ' ') return false;
  const char* second = end + 1;
  unsigned long columns = strtoul(second, &end, 10);
  if (end == second || *end != '\0' || rows > USHRT_MAX || columns > USHRT_MAX) return false;
  job->terminal = true;
  job->rows = (unsigned short)rows;
  job->columns = (unsigned short)columns;
  return true;
}

static bool parse_network(const char* text, struct hum_job* job) {
  char* end = NULL;
  unsigned long patience = strtoul(text, &end, 10);
  if (end == text || *end != '\0' || patience > USHRT_MAX) return false;
  job->network = true;
  job->network_patience = (unsigned short)patience;
  return true;
}

const char* hum_job_parse(char* bytes, size_t size, struct hum_job* job) {
  *job = (struct hum_job){.directory = NULL, .hostname = "hum"};
  size_t records = 0;
  for (size_t i = 0; i < size; ++i) records += bytes[i] == '\0';
  job->arguments = calloc(records + 1, sizeof(char*));
  job->environment = calloc(records + 1, sizeof(char*));
  if (job->arguments == NULL || job->environment == NULL) return "no memory";
  if (size == 0) {
    job->network = true;
    return NULL;
  }
  if (bytes[size - 1] != '\0') return "it is cut off";
  if (strcmp(bytes, hum_job_magic) != 0) return "it is of another version";

  char** argument = job->arguments;
  char** variable = job->environment;
  for (char* record = bytes + strlen(bytes) + 1; record < bytes + size; record += strlen(record) + 1) {
    char* value = NULL;
    if ((value = value_of(record, "argument")) != NULL) {
      *argument++ = value;
    } else if ((value = value_of(record, "environment")) != NULL) {
      *variable++ = value;
    } else if ((value = value_of(record, "directory")) != NULL) {
      job->directory = value;
    } else if ((value = value_of(record, "hostname")) != NULL) {
      job->hostname = value;
    } else if ((value = value_of(record, "terminal")) != NULL) {
      if (!parse_size(value, job)) return "its terminal size is no pair of numbers";
    } else if ((value = value_of(record, "network")) == NULL) {
      return "it has an unknown key";
    } else if (!parse_network(value, job)) {
      return "its patience with the network is no number";
    }
  }
  return NULL;
}
