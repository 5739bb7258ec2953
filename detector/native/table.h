/* Distinct names, each with its number, in the order they were met. They are not copied. */

#ifndef DETECTOR_TABLE_H
#define DETECTOR_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *text;
    ptrdiff_t length;
    uint64_t hash;
} Name;

/* places: number + 1 of the name there, 0 where none is; mask + 1 of them, a power of two. */
typedef struct {
    Name *names;
    int32_t count, room;
    uint32_t *places;
    uint32_t mask;
} Table;

enum {
    FIRST_ROOM = 128,
    /* Names made to collide cost no more than this; the caller has another who reads them. */
    MOST_PROBES = 64,
    CROWDED = -1,
    NO_MEMORY = -2
};

static inline bool open_table(Table *table)
{
    table->count = 0;
    table->room = FIRST_ROOM;
    table->mask = 2 * FIRST_ROOM - 1;
    table->names = malloc(sizeof(Name) * FIRST_ROOM);
    table->places = calloc(2 * FIRST_ROOM, sizeof(uint32_t));
    return table->names != NULL && table->places != NULL;
}

static inline void close_table(Table *table)
{
    free(table->names);
    free(table->places);
}

static inline uint64_t hash_of(const char *text, ptrdiff_t length)
{
    uint64_t hash = (uint64_t)length * 0x9E3779B97F4A7C15u, part;
    for (; length >= 8; text += 8, length -= 8) {
        memcpy(&part, text, 8);
        hash = (hash ^ part) * 0xD6E8FEB86659FD93u;
        hash ^= hash >> 32;
    }
    part = 0;
    memcpy(&part, text, (size_t)length);
    hash = (hash ^ part) * 0xD6E8FEB86659FD93u;
    return hash ^ hash >> 32;
}

static inline bool same_name(const Name *name, const char *text, ptrdiff_t length)
{
    return name->length == length && memcmp(name->text, text, (size_t)length) == 0;
}

static inline bool grow_table(Table *table)
{
    if (table->room > INT32_MAX / 4) return false;
    Name *names = realloc(table->names, sizeof(Name) * 2 * (size_t)table->room);
    if (names == NULL) return false;
    table->names = names;
    table->room *= 2;
    uint32_t mask = 2 * (uint32_t)table->room - 1;
    uint32_t *places = calloc((size_t)mask + 1, sizeof(uint32_t));
    if (places == NULL) return false;
    for (int32_t i = 0; i < table->count; i++) {
        uint32_t at = (uint32_t)names[i].hash & mask;
        while (places[at] != 0) at = (at + 1) & mask;
        places[at] = (uint32_t)i + 1;
    }
    free(table->places);
    table->places = places;
    table->mask = mask;
    return true;
}

/* The number of a name, a new one at first sight; CROWDED or NO_MEMORY. */
static inline int32_t number_of(Table *table, const char *text, ptrdiff_t length)
{
    uint64_t hash = hash_of(text, length);
    uint32_t at = (uint32_t)hash & table->mask;
    for (int probes = 0; table->places[at] != 0; probes++) {
        int32_t number = (int32_t)(table->places[at] - 1);
        const Name *name = &table->names[number];
        if (name->hash == hash && same_name(name, text, length)) return number;
        if (probes == MOST_PROBES) return CROWDED;
        at = (at + 1) & table->mask;
    }
    table->names[table->count] = (Name){text, length, hash};
    table->places[at] = (uint32_t)table->count + 1;
    int32_t number = table->count++;
    if (table->count == table->room && !grow_table(table)) return NO_MEMORY;
    return number;
}

#endif
